"use strict";
// Everything that a file could have named is put on the page as text, by textContent: never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const { frames, fps, size, seconds } = data.format ?? {}; // of the clips, where there are some
const HUES = ["#e5484d", "#8e9b2e", "#8a5cf6", "#f5a524", "#8b93a1", "#3b82f6", "#14b8a6"]; // of a label's first classes
const labels = (data.labels ?? []).filter(({ classes }) => classes !== null);
const numbers = (data.labels ?? []).filter(({ classes }) => classes === null);

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

byId("theme").addEventListener("click", () => {
  const root = document.documentElement.style;
  const dark = root.colorScheme ? root.colorScheme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.colorScheme = dark ? "light" : "dark";
});

