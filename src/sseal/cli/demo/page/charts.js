// Four small charts of the last minute, as SVG. A second without a value is a break in the line, never a guess.

import { el, say } from "./ui.js";

const SPAN = 60; // seconds shown
const WIDTH = 300;
const HEIGHT = 80;
const BREAK = 2.6; // seconds between two values that are still joined by a line
const SVG = "http://www.w3.org/2000/svg";
const calm = matchMedia("(prefers-reduced-motion: reduce)");

function svg(tag, attributes = {}) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

const number = (digits) => new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const one = number(1);
const none = number(0);

export function percent(value) {
  return [one.format(value), "%"];
}

export function rate(value) {
  const units = ["B/s", "kB/s", "MB/s", "GB/s"];
  let step = 0;
  while (value >= 999.5 && step < units.length - 1) {
    value /= 1000;
    step += 1;
  }
  return [step === 0 || value >= 99.95 ? none.format(value) : one.format(value), units[step]];
}

/** The next 1, 2 or 5 times a power of ten: scales that do not twitch. */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
}

export class Chart {
  #name;
  #format;
  #fixed;
  #series;
  #points = []; // {at, values, replayed}, by time
  #figures = [];
  #lines = [];
  #area = svg("path", { class: "area" });
  #bands = svg("g", { class: "bands" });
  #moving = svg("g");
  #root;
  #ceiling = el("span", { class: "ceiling" });
  #extra = el("span", { class: "extra" });
  #drawnAt = 0;

  /** `series` names the lines; `fixed` is the top of the scale, or null to follow the values. */
  constructor(host, { name, series, format, fixed = null }) {
    this.#name = name;
    this.#series = series;
    this.#format = format;
    this.#fixed = fixed;
    host.append(this.#build());
    this.#draw();
  }

  /** One moment: `values` in the order of `series`. Older moments may come later and take their place. */
  push(at, values, { replayed = false, extra = "" } = {}) {
    const points = this.#points;
    let index = points.length;
    while (index > 0 && points[index - 1].at > at) index -= 1;
    if (index > 0 && points[index - 1].at === at) return;
    points.splice(index, 0, { at, values, replayed });
    const oldest = points[points.length - 1].at - SPAN - 2;
    while (points[0].at < oldest || points.length > 4 * SPAN) points.shift();
    if (extra) say(this.#extra, extra);
    this.#draw();
  }

  /** Whether a replayed moment is still in view. */
  get replayed() {
    return this.#points.some((point) => point.replayed);
  }

  #build() {
    const figures = el("div", { class: "figures" });
    for (const label of this.#series) {
      const value = el("b", {}, "–");
      const unit = el("span", { class: "unit" });
      this.#figures.push([value, unit]);
      figures.append(el("p", { class: "figure" }, value, unit, label ? el("span", { class: "of" }, label) : null));
    }
    this.#root = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
    for (const y of [0.5, HEIGHT / 2, HEIGHT - 0.5]) {
      this.#root.append(svg("line", { class: "rule", x1: 0, x2: WIDTH, y1: y, y2: y }));
    }
    this.#moving.append(this.#bands, this.#area);
    for (const index of this.#series.keys()) {
      const line = svg("path", { class: `line s${index}` });
      const tip = svg("path", { class: `tip s${index}` });
      this.#lines.push([line, tip]);
      this.#moving.append(line, tip);
    }
    this.#root.append(this.#moving);
    return el("figure", { class: "chart" },
      el("figcaption", {}, this.#name, this.#extra), figures,
      el("div", { class: "plot" }, this.#ceiling, this.#root));
  }

  #draw() {
    const points = this.#points;
    const newest = points[points.length - 1];
    const shown = newest ? points.filter((point) => point.at >= newest.at - SPAN) : [];
    const top = this.#fixed ?? roundUp(Math.max(1000, ...shown.flatMap((point) => point.values)));
    say(this.#ceiling, this.#format(top).join(" ").replace(".0", ""));
    if (!newest) {
      this.#root.setAttribute("aria-label", `${this.#name}: no values yet`);
      return;
    }
    const x = (at) => WIDTH - ((newest.at - at) / SPAN) * WIDTH;
    const y = (value) => HEIGHT - 5 - (Math.max(0, Math.min(value, top)) / top) * (HEIGHT - 8);
    this.#lines.forEach(([line, tip], index) => {
      line.setAttribute("d", path(points, x, (point) => y(point.values[index])));
      tip.setAttribute("d", `M${WIDTH} ${y(newest.values[index]).toFixed(1)}h0`);
      const [value, unit] = this.#format(newest.values[index]);
      say(this.#figures[index][0], value);
      say(this.#figures[index][1], unit);
    });
    this.#area.setAttribute("d", runs(points).map((run) => `${path(run, x, (point) => y(point.values[0]))}L${x(run[run.length - 1].at).toFixed(1)} ${HEIGHT}L${x(run[0].at).toFixed(1)} ${HEIGHT}Z`).join(""));
    this.#drawBands(x);
    this.#describe(newest, shown);
    this.#glide();
  }

  #drawBands(x) {
    const bands = [];
    let band = null;
    for (const point of this.#points) {
      if (!point.replayed) band = null;
      else if (band) band[1] = point.at;
      else bands.push((band = [point.at - 1, point.at]));
    }
    this.#bands.replaceChildren(...bands.map(([from, to]) =>
      svg("rect", { x: x(from).toFixed(1), y: 0, width: (x(to) - x(from)).toFixed(1), height: HEIGHT })));
  }

  #describe(newest, shown) {
    const parts = this.#series.map((label, index) => {
      const values = shown.map((point) => point.values[index]);
      const text = (value) => this.#format(value).join(" ");
      return `${label ? `${label} ` : ""}${text(newest.values[index])}, last minute ${text(Math.min(...values))} to ${text(Math.max(...values))}`;
    });
    this.#root.setAttribute("aria-label", `${this.#name}: ${parts.join("; ")}`);
  }

  /** Slides one step to the left, unless motion is unwelcome or values come in a burst. */
  #glide() {
    const now = performance.now();
    const burst = now - this.#drawnAt < 400;
    this.#drawnAt = now;
    for (const animation of this.#moving.getAnimations?.() ?? []) animation.cancel();
    if (burst || calm.matches || document.hidden) return;
    this.#moving.animate([{ transform: `translateX(${WIDTH / SPAN}px)` }, { transform: "none" }],
      { duration: 950, easing: "linear" });
  }
}

function runs(points) {
  const all = [];
  points.forEach((point, index) => {
    if (index === 0 || point.at - points[index - 1].at > BREAK) all.push([]);
    all[all.length - 1].push(point);
  });
  return all;
}

function path(points, x, y) {
  return runs(points).map((run) =>
    run.map((point, index) => `${index ? "L" : "M"}${x(point.at).toFixed(1)} ${y(point).toFixed(1)}`).join("")).join("");
}
