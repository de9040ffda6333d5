const MOST_CLASSES = 12; // of a label that are told apart in a split's bar

// -- pairs

function pairCard(pair) {
  const card = element("article", "card");
  new Unit(card, data.clips[pair.clip], data.clips[pair.audio]);
  const about = element("div", "about");
  card.append(about);
  const dot = byId("dots").appendChild(element("i"));
  const answer = (guess) => {
    pair.guessed = guess === pair.match;
    dot.className = pair.guessed ? "right" : "wrong";
    about.replaceChildren(...verdict(pair));
    card.dataset.answer = pair.guessed ? "right" : "wrong";
    tally();
  };
  pair.ask = () => {
    pair.guessed = undefined;
    dot.className = "";
    delete card.dataset.answer;
    const choices = [["Together", true], ["Not together", false]].map(([text, guess]) => {
      const button = element("button", "", text);
      button.type = "button";
      button.addEventListener("click", () => answer(guess));
      return button;
    });
    about.replaceChildren(element("div", "guess", ...choices));
  };
  pair.ask();
  return card;
}

function verdict(pair) {
  const [clip, sound] = [data.clips[pair.clip], data.clips[pair.audio]];
  const whose = element("dl", "whose");
  const row = (term, who) =>
    whose.append(
      element("dt", "", term),
      element("dd", "", named(who.speaker), " · ", ...joined([who.video, who.utterance], who.speaker), `from ${+who.start.toFixed(2)} s`),
    );
  row("face", clip);
  if (!pair.match) row("voice", sound);
  return [
    element(
      "p",
      `verdict ${pair.guessed ? "right" : "wrong"}`,
      `${pair.guessed ? "Right" : "Wrong"}: ${pair.match ? "they belong together" : relation(clip, sound)}`,
    ),
    whose,
    element("p", "note", `Position ${whole(pair.position)} of the epoch`),
  ];
}

function relation(clip, sound) {
  if (clip.speaker !== sound.speaker) return "another speaker’s voice";
  return clip.video === sound.video ? "the same video at another time" : "the same speaker in another video";
}

function tally() {
  const answered = data.pairs.filter((pair) => pair.guessed !== undefined);
  const right = answered.filter((pair) => pair.guessed).length;
  const share = answered.length ? ` · ${Math.round((100 * right) / answered.length)} %` : "";
  byId("tally").textContent = answered.length ? `${right} of ${answered.length} right${share}` : "No guess yet";
  const [low, high] = wilson(right, answered.length);
  byId("interval").textContent = answered.length
    ? `95 % interval ${Math.round(100 * low)}–${Math.round(100 * high)} %, chance 50 %`
    : `${plural(data.pairs.length, "pair")} to guess`;
  byId("again").hidden = !answered.length;
}

/** The score interval of a share at 95 % (Wilson, 1927): holds for few guesses, too. */
function wilson(right, total) {
  const z2 = 1.96 ** 2;
  const middle = (right + z2 / 2) / (total + z2);
  const spread = Math.sqrt((z2 * ((right * (total - right)) / (total || 1) + z2 / 4))) / (total + z2);
  return [Math.max(0, middle - spread), Math.min(1, middle + spread)];
}

// -- what was rejected

function reasonPanel({ reason, count, rows }, most) {
  const number = element("span", "count");
  const body = element("tbody");
  const head = element("tr", "", ...["Split", "Speaker", "Video", "Utterance", "Detail"].map((name) => element("th", "", name)));
  const table = element("table", "", element("thead", "", head), body);
  const panel = element("details", "reason", element("summary", "", named(reason), meter(count / most, false), number), table);
  if (count > rows.length) panel.append(element("p", "note wide", `The first ${whole(rows.length)} of ${whole(count)}; all are in rejected.parquet`));
  panel.all = count;
  panel.open = count <= 20;
  for (const row of rows) {
    const cells = [row.split, row.speaker, row.video, row.utterance, row.detail];
    body.append(element("tr", "", ...cells.map((text) => element("td", "name", text ?? ""))));
  }
  return panel;
}

// -- the page

function facts() {
  const { format, splits, rejected } = data;
  byId("lede").textContent =
    `Clips of ${+seconds.toFixed(3)} s · ${frames} frames at ${+fps.toFixed(3)} a second · ${size} px · ` +
    `${+(format.sample_rate / 1000).toFixed(3)} kHz`;
  const fact = (title, big, small, ...more) =>
    element("div", more.length ? "fact labelled" : "fact", element("h2", "", title), element("p", "big", big), element("p", "small", small), ...more);
  for (const split of splits) {
    const balances = labels.flatMap((label) => balance(label, split.labels[label.name]));
    const duration = (split.clips * seconds) / 60;
    const length = duration < 90 ? `${duration.toFixed(1)} min` : `${whole(Math.round(duration / 60))} h`;
    const small = `${plural(split.speakers, "speaker")} · ${plural(split.videos, "video")} · ${length}`;
    byId("facts").append(fact(split.name, plural(split.clips, "clip"), small, ...balances));
  }
  const total = rejected.reduce((sum, { count }) => sum + count, 0);
  const reasons = rejected.map(({ reason, count }) => `${whole(count)} ${reason}`).join(" · ");
  byId("facts").append(fact("rejected", plural(total, "utterance"), reasons || "Everything could be used"));
  byId("footer").append(
    `Clips: ${whole(data.shown.length)} of ${whole(splits.reduce((sum, { clips }) => sum + clips, 0))}, spread over splits, labels, ` +
      `speakers and videos. Pairs: the first ${whole(data.pairs.length)} of epoch ${data.epoch} with seed ${data.seed}, mixed.`,
  );
}

/** How many clips of each class of a label, as one bar; nothing where no clip has one. */
function balance({ name, classes }, counts) {
  const order = counts.map((_, place) => place).filter((place) => counts[place]);
  if (!order.length) return [];
  const commonest = new Set([...order].sort((a, b) => counts[b] - counts[a]).slice(0, MOST_CLASSES));
  const bar = element("div", "balance");
  const legend = element("div", "legend", named(name));
  const add = (text, count, hue) => {
    const part = element("span");
    part.style.flexGrow = count;
    const entry = element("span", "class", `${text} ${whole(count)}`);
    for (const made of [part, entry]) made.style.setProperty("--hue", hue);
    bar.append(part);
    legend.append(entry);
  };
  for (const place of order) if (commonest.has(place)) add(classes[place], counts[place], hueOf(place));
  const others = order.filter((place) => !commonest.has(place));
  if (others.length) add(`${whole(others.length)} others`, others.reduce((sum, place) => sum + counts[place], 0), "var(--line)");
  return [bar, legend];
}

// Everything that can be filtered: what it is filtered by, and the elements that show it.
const entries = { clips: [], pairs: [], rejected: [] };

function fill() {
  const search = (...names) => names.join("\n").toLowerCase();
  const textOf = (clip) =>
    search(clip.key, clip.speaker, clip.video, clip.utterance, ...labels.map(({ name }) => clip.labels[name] ?? `no ${name}`));
  for (const index of data.shown) {
    const clip = data.clips[index];
    const { split, speaker } = clip;
    entries.clips.push({ split, labels: clip.labels, speaker, text: textOf(clip), shown: clipCard(clip) });
  }
  for (const pair of data.pairs) {
    // By the face alone: filtering by the voice would give the answer away.
    const clip = data.clips[pair.clip];
    const { split, speaker } = clip;
    entries.pairs.push({ split, labels: clip.labels, speaker, text: textOf(clip), shown: pairCard(pair) });
  }
  byId("view-clips").querySelector(".grid").append(...entries.clips.map((entry) => entry.shown));
  byId("view-pairs").querySelector(".grid").append(...entries.pairs.map((entry) => entry.shown));
  const most = Math.max(1, ...data.rejected.map(({ count }) => count));
  for (const group of data.rejected) {
    const panel = reasonPanel(group, most);
    byId("view-rejected").querySelector(".reasons").append(panel);
    [...panel.querySelectorAll("tbody tr")].forEach((shown, index) => {
      const { split, speaker, video, utterance, detail } = group.rows[index];
      const text = search(speaker, video, utterance, detail, group.reason);
      entries.rejected.push({ split, speaker, text, shown, panel });
    });
  }
}

// What an entry is filtered by: null stands for what is not stated, undefined for what does not go by it.
const filters = [
  { id: "split", all: "All splits", of: (entry) => entry.split ?? undefined },
  ...labels.map(({ name }, number) => ({ id: `label-${number}`, all: `Any ${name}`, none: `no ${name}`, of: (entry) => entry.labels?.[name] })),
  { id: "speaker", all: "All speakers", of: (entry) => entry.speaker ?? undefined },
];

function options() {
  for (const { id, all, none, of } of filters) {
    if (!byId(id)) {
      const select = element("select");
      select.id = id;
      select.setAttribute("aria-label", all);
      byId("speaker").before(select);
    }
    const counts = new Map();
    for (const entry of [...entries.clips, ...entries.pairs, ...entries.rejected]) {
      if (of(entry) !== undefined) counts.set(of(entry), 0);
    }
    for (const entry of entries.clips) counts.set(of(entry), counts.get(of(entry)) + 1);
    byId(id).append(new Option(all, ""));
    const text = (value) => value ?? none ?? "";
    const sorted = [...counts].sort(([a], [b]) => (a === null) - (b === null) || text(a).localeCompare(text(b), "en", { numeric: true }));
    // Values are numbered: a name may be anything, even the empty text that stands for all.
    byId(id).values = sorted.map(([value]) => value);
    sorted.forEach(([value, count], index) => byId(id).append(new Option(`${text(value)} (${count})`, index)));
  }
}

const chosen = ({ id }) => (byId(id).value === "" ? undefined : byId(id).values[byId(id).value]);

function filter() {
  const wanted = filters.map((one) => [one.of, chosen(one)]).filter(([, value]) => value !== undefined);
  const words = byId("text").value.toLowerCase().trim();
  const passes = (entry) =>
    wanted.every(([of, value]) => of(entry) === undefined || of(entry) === value) && entry.text.includes(words);
  for (const [name, list] of Object.entries(entries)) {
    for (const entry of list) entry.shown.hidden = !passes(entry);
    const left = list.filter((entry) => !entry.shown.hidden).length;
    const all = name === "rejected" ? data.rejected.reduce((sum, { count }) => sum + count, 0) : list.length;
    byId(`tab-${name}`).querySelector(".count").textContent = whole(left === list.length ? all : left);
    const noun = { clips: "clip", pairs: "pair", rejected: "rejected utterance" }[name];
    byId(`view-${name}`).querySelector(".status").textContent =
      all === 0 ? `No ${noun}s` : left === list.length ? plural(all, noun) : `${whole(left)} of ${plural(all, noun)}`;
  }
  for (const panel of document.querySelectorAll(".reason")) {
    const left = panel.querySelectorAll("tbody tr:not([hidden])").length;
    const rows = panel.querySelectorAll("tbody tr").length;
    panel.hidden = left === 0;
    panel.querySelector(".count").textContent = whole(left === rows ? panel.all : left);
  }
  byId("clear").hidden = !wanted.length && !words;
  if (stage.active?.card.hidden) stop();
}

function open(name) {
  for (const tab of ["clips", "pairs", "rejected"]) {
    byId(`view-${tab}`).hidden = tab !== name;
    byId(`tab-${tab}`).setAttribute("aria-selected", tab === name);
  }
  stop();
}

function toggle(button, change) {
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", on);
    change(on);
  });
}

facts();
fill();
options();
filter();
tally();

const fromAddress = () => open({ "#pairs": "pairs", "#rejected": "rejected" }[location.hash] ?? "clips");
fromAddress();
addEventListener("hashchange", fromAddress);
for (const tab of ["clips", "pairs", "rejected"]) byId(`tab-${tab}`).addEventListener("click", () => (location.hash = tab));
for (const event of ["input", "change"]) byId("filters").addEventListener(event, filter);
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("filters").addEventListener("reset", () => requestAnimationFrame(filter)); // the fields are empty only after it
byId("again").addEventListener("click", () => {
  for (const pair of data.pairs) pair.ask();
  tally();
});
toggle(byId("loop"), (on) => (player.loop = on));
toggle(byId("animate"), (on) => {
  stage.all = on;
  if (!on) for (const unit of stage.inView) if (unit !== stage.active) unit.draw(0);
  tick();
});
