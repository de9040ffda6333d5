"use strict";
// Everything that a file could have named is put on the page as text, by textContent: never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const { frames, fps, size, seconds } = data.format;
const HUES = ["#e5484d", "#8e9b2e", "#8a5cf6", "#f5a524", "#8b93a1", "#3b82f6", "#14b8a6"]; // of a label's first classes
const MOST_CLASSES = 12; // of a label that are told apart in a split's bar
const labels = data.labels.filter(({ classes }) => classes !== null);
const numbers = data.labels.filter(({ classes }) => classes === null);

const byId = (id) => document.getElementById(id);
const hueOf = (place) => HUES[place] ?? `hsl(${Math.round(place * 137.5) % 360} 55% 55%)`; // by the golden angle
const whole = (number) => number.toLocaleString("en");
const plural = (number, noun) => `${whole(number)} ${noun}${number === 1 ? "" : "s"}`;

/** An element with a class, and children that are elements or text. */
function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children.filter((child) => child !== null));
  return made;
}

const named = (text) => element("span", "name", text);

// -- moving pictures

const player = byId("player");
const stage = { active: null, inView: new Set(), hovered: null, all: false, ticking: false };

/** Frames of one clip with the sound of one clip: a picture to press, and a spectrogram that shows where it is. */
class Unit {
  constructor(card, clip, sound) {
    this.card = card;
    this.address = clip.film;
    this.sound = sound.audio;
    this.frame = -1;
    this.heads = [];
    this.canvas = element("canvas");
    this.canvas.width = this.canvas.height = size;
    this.film = element("button", "film", this.canvas, element("span", "play"));
    this.film.type = "button";
    this.film.setAttribute("aria-label", "Play");
    this.film.addEventListener("click", () => this.pressed());
    this.film.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && hover(this));
    this.film.addEventListener("pointerleave", () => hover(null));
    if (!this.address) this.fail("No pictures");
    card.append(this.film);
    if (this.sound) {
      const spectrogram = element("img");
      spectrogram.src = sound.spectrogram;
      spectrogram.alt = "Spectrogram of the sound";
      spectrogram.loading = "lazy";
      card.append(this.track(element("div", "sound", spectrogram)));
    } else card.append(element("p", "note silent", "No sound"));
    card.unit = this;
    watcher.observe(card);
  }

  /** Lets a strip of time be pressed to play from there, with a line that shows where playing is. */
  track(strip) {
    const head = element("span", "head");
    strip.classList.add("track");
    strip.append(head);
    strip.addEventListener("click", (event) => {
      const { left, width } = strip.getBoundingClientRect();
      if (this.sound) play(this, Math.min(Math.max((event.clientX - left) / width, 0), 0.999) * seconds);
    });
    this.heads.push(head);
    return strip;
  }

  pressed() {
    if (isPlaying(this)) stop();
    else if (this.sound) play(this, 0);
    else hover(stage.hovered === this ? null : this); // it moves silently
  }

  load() {
    if (this.picture || !this.address) return;
    this.picture = new Image();
    this.picture.addEventListener("load", () => this.draw(0));
    this.picture.addEventListener("error", () => this.fail("The filmstrip cannot be shown"));
    this.picture.src = this.address;
  }

  draw(frame) {
    if (frame === this.frame || !this.picture?.complete || !this.picture.naturalWidth) return;
    this.canvas.getContext("2d").drawImage(this.picture, 0, frame * size, size, size, 0, 0, size, size);
    this.frame = frame;
    this.card.dataset.frame = frame;
  }

  show(time) {
    this.draw(Math.min(Math.floor(time * fps), frames - 1));
    for (const head of this.heads) head.style.left = `${(100 * time) / seconds}%`;
  }

  fail(message) {
    if (!this.film.querySelector(".failed")) this.film.append(element("span", "failed", message));
  }
}

const isPlaying = (unit) => stage.active === unit && !player.paused;
const calm = matchMedia("(prefers-reduced-motion: reduce)");

function play(unit, time) {
  if (stage.active !== unit) {
    const { hovered } = stage;
    stop();
    Object.assign(stage, { active: unit, hovered });
    player.src = unit.sound;
  }
  unit.load();
  player.currentTime = time;
  unit.card.classList.add("playing");
  unit.film.setAttribute("aria-label", "Pause");
  player.play().catch((error) => {
    if (error.name === "AbortError") return; // something else was played meanwhile
    unit.fail(`The sound cannot be played: ${error.message}`);
    stop();
  });
  tick();
}

function stop() {
  const unit = stage.active;
  if (!unit) return;
  player.pause();
  stage.active = stage.hovered = null; // who stops it wants it still
  unit.card.classList.remove("playing");
  unit.film.setAttribute("aria-label", "Play");
  unit.draw(0);
}

player.addEventListener("ended", stop);

function hover(unit) {
  if (stage.hovered && stage.hovered !== stage.active && !stage.all) stage.hovered.draw(0);
  stage.hovered = calm.matches ? null : unit;
  tick();
}

const watcher = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) {
        target.unit.load();
        stage.inView.add(target.unit);
      } else stage.inView.delete(target.unit);
    }
    tick();
  },
  { rootMargin: "300px" },
);

/** One clock for everything that moves: the sound's for what is played, the page's for what moves silently. */
function tick() {
  if (stage.ticking) return;
  stage.ticking = true;
  requestAnimationFrame((now) => {
    stage.ticking = false;
    if (stage.active) stage.active.show(player.currentTime);
    const silent = stage.all ? stage.inView : stage.hovered ? [stage.hovered] : [];
    const frame = Math.floor((now / 1000) * fps) % frames;
    for (const unit of silent) if (unit !== stage.active) unit.draw(frame);
    if (stage.active || stage.hovered || (stage.all && stage.inView.size)) tick();
  });
}

// -- what is said of a clip

function labelPill(clip, { name, classes }) {
  const stated = clip.labels[name];
  if (stated === null) return null;
  const pill = element("span", "pill label", stated);
  pill.title = name;
  pill.style.setProperty("--hue", hueOf(classes.indexOf(stated)));
  return pill;
}

/** A bar from 0 (or from the middle) to where a value between -1 and 1 lies. */
function meter(share, fromMiddle) {
  const bar = element("i");
  const [low, high] = fromMiddle ? [Math.min(0.5, 0.5 + share / 2), Math.max(0.5, 0.5 + share / 2)] : [0, share];
  bar.style.left = `${100 * low}%`;
  bar.style.width = `${100 * (high - low)}%`;
  return element("span", fromMiddle ? "meter both" : "meter", bar);
}

const limited = (value, low, high) => Math.min(Math.max(value, low), high);
const signed = (value) => (Math.abs(value) < 1000 ? value.toFixed(2) : String(value)).replace("-", "−");

/** A bar from 0 to a value, or from the end that is nearer to 0, within the range of a label that is a number. */
function scale(value, low, high) {
  const share = (at) => (100 * (limited(at, low, high) - low)) / (high - low || 1);
  const zero = share(0);
  const bar = element("i");
  bar.style.left = `${Math.min(zero, share(value))}%`;
  bar.style.width = `${Math.abs(share(value) - zero)}%`;
  const made = element("span", low < 0 && high > 0 ? "meter both" : "meter", bar);
  made.style.setProperty("--zero", `${zero}%`);
  made.title = `from ${low} to ${high}`;
  return made;
}

function numberRows(clip) {
  const stated = numbers.filter(({ name }) => clip.labels[name] !== null);
  if (!stated.length) return null;
  const rows = element("div", "numbers");
  for (const { name, low, high } of stated) {
    const value = clip.labels[name];
    rows.append(name, scale(value, low, high), element("span", "value", signed(value)));
  }
  return rows;
}

const MOST_AWAY = 3; // deviations that fill a bar

function gazePanel(unit, clip) {
  if (!clip.gaze && !clip.curves) return null;
  const panel = element("details", "gaze");
  const summary = element("summary", "", "Gaze");
  panel.append(summary);
  if (clip.gaze) {
    const spark = element("span", "spark");
    const rows = element("div", "statistics");
    for (const { label, unit: unitName, value, away } of clip.gaze) {
      const share = away === null ? 0 : limited(away / MOST_AWAY, -1, 1);
      const bar = element("i", share < 0 ? "below" : "");
      bar.style[share < 0 ? "top" : "bottom"] = "50%";
      bar.style.height = `${50 * Math.abs(share)}%`;
      const column = element("span", "", bar);
      column.title = away === null ? label : `${label}: ${signed(away)} deviations from the mean`;
      spark.append(column);
      const shown = element("span", "value", value === null ? "–" : String(+value.toPrecision(3)).replace("-", "−"));
      shown.append(" ", element("small", "", unitName));
      rows.append(label, away === null ? element("span") : meter(share, true), shown);
    }
    summary.append(spark);
    panel.append(rows);
    if (clip.gaze.some(({ away }) => away !== null)) {
      panel.append(element("p", "note", `Bars: deviations from the training split’s mean, up to ±${MOST_AWAY}`));
    }
  }
  if (clip.curves) {
    const curves = element("div", "curves");
    for (const curve of clip.curves) {
      curves.append(element("div", "curve", element("p", "", curve.label), unit.track(line(curve.values))));
    }
    panel.append(curves);
  }
  return panel;
}

/** A curve along the clip; where there is no value, it is broken. */
function line(values) {
  const space = "http://www.w3.org/2000/svg";
  const known = values.filter((value) => value !== null);
  const low = Math.min(...known);
  const range = Math.max(...known) - low || 1;
  const drawing = document.createElementNS(space, "svg");
  drawing.setAttribute("viewBox", `0 0 ${Math.max(values.length - 1, 1)} 1`);
  drawing.setAttribute("preserveAspectRatio", "none");
  let piece = [];
  const finish = () => {
    if (piece.length) {
      const stroke = document.createElementNS(space, "polyline");
      stroke.setAttribute("points", piece.join(" "));
      drawing.append(stroke);
    }
    piece = [];
  };
  values.forEach((value, index) => (value === null ? finish() : piece.push(`${index},${1 - (value - low) / range}`)));
  finish();
  return element("div", "", drawing);
}

/** Names, each followed by a dot; some corpora have one name for speaker and video, which is shown once. */
const joined = (names, known) => names.filter((name) => name !== known).flatMap((name) => [named(name), " · "]);

function where(clip) {
  const padded = clip.padded > 0 ? ` · last ${clip.padded.toFixed(2)} s padded` : "";
  return element("p", "where", ...joined([clip.video, clip.utterance], clip.speaker), `from ${+clip.start.toFixed(2)} s${padded}`);
}

function clipCard(clip) {
  const card = element("article", "card");
  const unit = new Unit(card, clip, clip);
  unit.film.append(element("span", "pills", element("span", "pill", clip.split), ...labels.map((label) => labelPill(clip, label))));
  card.append(
    element(
      "div",
      "about",
      element("p", "who", named(clip.speaker)),
      where(clip),
      numberRows(clip),
      gazePanel(unit, clip),
    ),
  );
  return card;
}

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
byId("theme").addEventListener("click", () => {
  const root = document.documentElement.style;
  const dark = root.colorScheme ? root.colorScheme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.colorScheme = dark ? "light" : "dark";
});
