const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;
const shortly = (value) => (value === null ? "–" : String(+(+value).toPrecision(3)).replace("-", "−"));
const bodyOf = (id) => byId(id).querySelector(".body");
const nothing = (text) => element("p", "empty quiet", text);
const asText = (value) => (typeof value === "string" ? value : value === null ? "none" : JSON.stringify(value));

/** The things in their order, in groups by a name each has. */
function grouped(things, nameOf) {
  const groups = new Map();
  for (const thing of things) groups.set(nameOf(thing), [...(groups.get(nameOf(thing)) ?? []), thing]);
  return groups;
}

// -- scores

function scoreRow({ what, value, low, high, beat, why, share }) {
  const told = (number) => (number === null ? "–" : share ? (100 * number).toFixed(1) : number.toFixed(3));
  const ends = low === null || high === null ? "" : ` (${told(low)} – ${told(high)})`;
  const text = element("span", "value", `${told(value)}${share ? " %" : ""}`, element("small", "", ends));
  const range = element("span", "range");
  const left = (number) => `${100 * limited(number, 0, 1)}%`;
  if (share && value !== null) {
    const bar = element("i");
    bar.style.width = left(value);
    range.append(bar);
    if (ends) {
      const interval = element("b");
      interval.style.left = left(low);
      interval.style.width = `${100 * (limited(high, 0, 1) - limited(low, 0, 1))}%`;
      range.append(interval);
    }
    if (beat !== null) {
      const mark = element("u");
      mark.style.left = left(beat);
      mark.title = `${why}: ${percent(beat)}`;
      range.append(mark);
    }
  }
  const against = beat === null ? "" : `${why} ${share ? percent(beat) : shortly(beat)}`;
  return element("div", "score", element("span", "", what, element("br"), element("small", "quiet", against)), share ? range : null, text);
}

function scores() {
  const into = bodyOf("scores");
  if (!data.scored) return into.append(nothing("The run has not been scored yet."));
  const panels = element("div", "groups");
  for (const [of, rows] of grouped(data.scores, (score) => score.of)) {
    panels.append(element("div", "panel", element("h3", "", named(of)), ...rows.map(scoreRow)));
  }
  into.append(panels, element("p", "note", `Intervals of 95 % over speakers; red: what is to be beaten. On ${data.on.join("; ")}.`));
}

// -- confusion

function matrix(classes, { counts, recalls }) {
  const head = element("tr", "", element("th"), ...classes.map((name) => element("th", "", named(name))), element("th", "", "recall"));
  const body = element("tbody");
  counts.forEach((row, place) => {
    const total = row.reduce((sum, count) => sum + count, 0);
    const cells = row.map((count, column) => {
      const cell = element("td", "", count ? whole(count) : "");
      cell.style.setProperty("--share", total ? (count / total).toFixed(3) : 0);
      if (total && count / total > 0.62) cell.className = "deep";
      cell.title = `${classes[place]} stated, ${classes[column]} said: ${count}`;
      return cell;
    });
    const name = element("th", "", named(classes[place]));
    name.title = classes[place];
    const recall = recalls[place] === undefined || recalls[place] === null ? "–" : percent(recalls[place], 0);
    body.append(element("tr", "", name, ...cells, element("td", "recall", recall)));
  });
  return element("table", "matrix", element("thead", "", head), body);
}

function confusions() {
  const into = bodyOf("confusions");
  if (!data.confusions.length) return into.append(nothing(data.scored ? "Nothing of it has classes." : "The run has not been scored yet."));
  for (const { target, classes, by } of data.confusions) {
    const panels = by.map((one) => {
      const title = one.name === "pairs" ? "pairs" : `${target} from ${one.name}`;
      return element("div", "panel scroll", element("h3", "", named(title)), matrix(classes, one));
    });
    into.append(element("div", "matrices", ...panels));
  }
  into.append(element("p", "note", "Rows: what is stated; columns: what is said; colours: shares of a row; at the right each class’s recall."));
}

// -- curves

const SPACE = "http://www.w3.org/2000/svg";
const MOST_PLOTS = 9;

function plot({ title, lines }) {
  const known = lines.flatMap(({ values }) => values.filter((value) => value !== null));
  const steps = lines.flatMap((one) => one.steps);
  const panel = element("div", "panel plot", element("h4", "", named(title)));
  if (!known.length) return panel;
  const [low, high, last] = [Math.min(...known), Math.max(...known), Math.max(...steps)];
  const drawing = document.createElementNS(SPACE, "svg");
  drawing.setAttribute("viewBox", "0 0 1 1");
  drawing.setAttribute("preserveAspectRatio", "none");
  for (const { name, steps: at, values } of lines) {
    let piece = [];
    const finish = () => {
      if (piece.length) {
        const stroke = document.createElementNS(SPACE, "polyline");
        stroke.setAttribute("class", `${name}${piece.length === 1 ? " point" : ""}`);
        stroke.setAttribute("points", (piece.length === 1 ? [piece[0], piece[0]] : piece).join(" "));
        drawing.append(stroke);
      }
      piece = [];
    };
    values.forEach((value, index) => {
      if (value === null) finish();
      else piece.push(`${(at[index] / (last || 1)).toFixed(5)},${(high === low ? 0.5 : 1 - (value - low) / (high - low)).toFixed(5)}`);
    });
    finish();
  }
  const axis = (...texts) => element("p", "axis", ...texts.map((text) => element("span", "", text)));
  const key = element("p", "key", ...lines.map(({ name, values }) => element("span", name, `${name}, last ${shortly(values.at(-1))}`)));
  panel.append(key, axis(shortly(high), ""), drawing, axis(shortly(low), `step ${whole(last)}`));
  return panel;
}

function curves() {
  const into = bodyOf("curves");
  if (!data.curves.length) return into.append(nothing("The run has no line of curves yet."));
  into.append(element("div", "plots", ...data.curves.slice(0, MOST_PLOTS).map(plot)));
  const more = data.curves.slice(MOST_PLOTS);
  if (more.length) {
    const summary = element("summary", "", `${plural(more.length, "more curve")}`);
    into.append(element("details", "more", summary, element("div", "plots", ...more.map(plot))));
  }
}

// -- answers

function answerRows({ stated, said }) {
  const rows = element("div", "answers");
  for (const [by, one] of Object.entries(said)) {
    if (typeof one === "number") {
      const text = by === "together" ? percent(one) : signed(one);
      rows.append(element("span", "quiet", by), element("span"), element("span", "value", text));
    } else {
      const right = one.said === stated;
      rows.append(element("span", "quiet", by), element("span", right ? "right name" : "wrong name", one.said), element("span", "value", percent(one.probability, 0)));
    }
  }
  return rows;
}

function answerCard(answer) {
  const card = element("article", "card");
  const [first, second] = answer.clips.map((index) => data.clips[index]);
  if (first) new Unit(card, first, second ?? first);
  const about = element("div", "about");
  if (answer.keys.length === 2) {
    const [face, voice] = answer.keys;
    about.append(element("p", "stated", answer.stated ? "belong together" : "do not belong together"));
    about.append(element("p", "where", "face ", named(face.speaker), " · ", named(face.clip)));
    about.append(element("p", "where", "voice ", named(voice.speaker), " · ", named(voice.clip)));
  } else {
    const [key] = answer.keys;
    about.append(element("p", "stated", named(typeof answer.stated === "number" ? signed(answer.stated) : answer.stated)));
    about.append(element("p", "where", named(key.speaker), " · ", ...joined([key.video], key.speaker), named(key.utterance)));
  }
  about.append(answerRows(answer));
  card.append(about);
  return card;
}

function extremes() {
  const into = bodyOf("extremes");
  if (data.missing) return into.append(nothing(data.missing));
  for (const { title, answers } of data.extremes) {
    if (answers.length) into.append(element("h3", "", named(title)), element("div", "grid", ...answers.map(answerCard)));
  }
  const playable = data.clips.length ? "" : " Made with --data DATASET, the page plays them.";
  into.append(element("p", "note", `In bold what is stated; below what the run said, from each modality, and how sure it was.${playable}`));
}

// -- settings, provenance

function list(rows, head) {
  const body = element("tbody", "", ...rows.map((cells) => element("tr", "", ...cells.map((cell) => element("td", "", element("code", "name", cell))))));
  const top = head ? element("thead", "", element("tr", "", ...head.map((name) => element("th", "", name)))) : null;
  return element("table", "list", top, body);
}

function settings() {
  const rows = data.settings.map(({ option, value, default: before, required }) => [option, asText(value), required ? "has to be given" : asText(before)]);
  bodyOf("settings").append(rows.length ? element("div", "panel", list(rows, ["option", "here", "default"])) : nothing("All are the defaults."));
}

function provenance() {
  const panels = data.provenance.map(({ title, rows }) => element("div", "panel", element("h3", "", title), list(rows)));
  bodyOf("provenance").append(panels.length ? element("div", "groups", ...panels) : nothing("run.json does not say."));
}

// -- the page

function facts() {
  byId("lede").append(data.stage, data.targets.length ? ": " : "", ...joined(data.targets.slice(0, -1)), named(data.targets.at(-1) ?? ""));
  const fact = (title, big, small) => element("div", "fact", element("h2", "", title), element("p", "big", big), element("p", "small", small));
  const state = data.finished ? (data.scored ? "finished and scored" : "finished, not scored") : "not finished";
  byId("facts").append(fact("training", plural(data.steps, "step"), state));
  const first = data.scores.find(({ what, of }) => what === "accuracy" || (what === "micro-F1" && of.endsWith("joint"))) ?? data.scores[0];
  if (first && first.value !== null) {
    const against = first.beat === null ? "" : ` · ${first.why} ${first.share ? percent(first.beat) : shortly(first.beat)}`;
    byId("facts").append(fact(`${first.what}, ${first.of}`, first.share ? percent(first.value) : shortly(first.value), `95 %: ${first.share ? `${percent(first.low ?? NaN)} – ${percent(first.high ?? NaN)}` : `${shortly(first.low)} – ${shortly(first.high)}`}${against}`));
  }
  if (data.waiting) {
    const { clips_per_second: rate, share, bound } = data.waiting;
    byId("facts").append(fact("waited for data", percent(share, 2), `of the time: bound by ${bound} · ${shortly(rate)} clips/s`));
  }
  byId("footer").append("Made by python -m models.page from the run’s folder alone. Nothing is fetched from anywhere.");
}

facts();
scores();
confusions();
curves();
extremes();
settings();
provenance();
