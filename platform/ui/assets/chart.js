// @ts-check
// Lines over time on a canvas: axes, gaps where there is no data, and a cursor for mouse, finger and arrow keys.

import { h } from "./dom.js";
import { clock, moment } from "./format.js";

/**
 * @typedef {{ name: string, color: number, points: [number, number][], hidden?: boolean }} Line points in seconds, by time
 * @typedef {{ lines: Line[], start: number, end: number, step: number, top?: number }} Data times in seconds; `top` is the
 *   least upper end of the value axis
 */

const COLOR_COUNT = 8;
const FONT = "11px system-ui, sans-serif";

/** Distances of time ticks in seconds. */
const TIME_STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 1209600, 2592000, 7776000, 31536000];

/** @param {number} color */
const variable = (color) => `--series-${color % COLOR_COUNT}`;

/** @param {Line} line @returns {HTMLElement} its mark in a legend */
export const key = (line) => h("span", { class: "key", "--key": `var(${variable(line.color)})` });

export class Chart {
  /**
   * @param {HTMLElement} parent
   * @param {{ height: number, format: (value: number) => string, label: string, binary?: boolean, filled?: boolean }} options
   *   `binary`: ticks on multiples of powers of 1024
   */
  constructor(parent, options) {
    this.options = options;
    /** @type {Data} */
    this.data = { lines: [], start: 0, end: 0, step: 1 };
    /** @type {number | null} the cursor's time */
    this.cursor = null;
    this.canvas = h("canvas", { tabindex: 0, role: "img", "aria-label": options.label });
    this.canvas.style.height = `${options.height}px`;
    this.tip = h("div", { class: "tip", hidden: true });
    this.plot = h("div", { class: "plot" }, this.canvas, this.tip);
    parent.append(this.plot);
    this.canvas.addEventListener("pointermove", (event) => this.#point(event.offsetX));
    this.canvas.addEventListener("pointerdown", (event) => this.#point(event.offsetX));
    this.canvas.addEventListener("pointerleave", () => this.#move(null));
    this.canvas.addEventListener("blur", () => this.#move(null));
    this.canvas.addEventListener("keydown", (event) => this.#press(event));
    new ResizeObserver(() => this.draw()).observe(this.plot);
  }

  /** @param {Data} data */
  set(data) {
    this.data = data;
    const last = data.lines.map((line) => `${line.name} ${line.points.length ? this.options.format(line.points[line.points.length - 1][1]) : "no data"}`);
    this.canvas.setAttribute("aria-label", `${this.options.label}: ${last.slice(0, 8).join(", ") || "no data"}`);
    this.draw();
  }

  draw() {
    const width = this.plot.clientWidth;
    const { height } = this.options;
    if (!width) return;
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    const context = this.canvas.getContext("2d");
    if (!context) return;
    context.scale(ratio, ratio);
    context.font = FONT;
    const style = getComputedStyle(this.canvas);
    const color = (/** @type {string} */ name) => style.getPropertyValue(name).trim();

    const shown = this.data.lines.filter((line) => !line.hidden);
    const ticks = valueTicks(shown, this.data.top, Math.max(2, Math.floor(height / 40)), this.options.binary ?? false);
    const labels = ticks.map((tick) => this.options.format(tick));
    const left = Math.ceil(Math.max(...labels.map((label) => context.measureText(label).width))) + 8;
    const box = { left, right: width - 6, top: 8, bottom: height - 18 };
    const bottomValue = ticks[0];
    const topValue = Math.max(ticks[ticks.length - 1], this.data.top ?? 0);
    const { start, end } = this.data;
    this.x = (/** @type {number} */ t) => box.left + ((t - start) / (end - start || 1)) * (box.right - box.left);
    this.time = (/** @type {number} */ x) => start + ((x - box.left) / (box.right - box.left || 1)) * (end - start);
    const y = (/** @type {number} */ value) => box.bottom - ((value - bottomValue) / (topValue - bottomValue || 1)) * (box.bottom - box.top);

    context.lineWidth = 1;
    context.strokeStyle = color("--line");
    context.fillStyle = color("--muted");
    context.textBaseline = "middle";
    context.textAlign = "right";
    ticks.forEach((tick, index) => {
      const at = Math.round(y(tick)) + 0.5;
      context.beginPath();
      context.moveTo(box.left, at);
      context.lineTo(box.right, at);
      context.stroke();
      context.fillText(labels[index], box.left - 6, at);
    });
    context.textBaseline = "alphabetic";
    context.textAlign = "center";
    for (const [t, label] of timeTicks(start, end, Math.max(2, Math.floor((box.right - box.left) / 80)))) {
      const half = context.measureText(label).width / 2;
      const at = this.x(t);
      if (at - half >= 0 && at + half <= width) context.fillText(label, at, height - 4);
    }

    context.save();
    context.beginPath();
    context.rect(box.left, box.top - 2, box.right - box.left + 3, box.bottom - box.top + 4);
    context.clip();
    context.lineJoin = "round";
    context.lineWidth = 1.5;
    for (const line of [...shown].reverse()) {
      context.strokeStyle = context.fillStyle = color(variable(line.color));
      for (const run of runs(line.points, this.data.step)) this.#drawRun(context, run, y, box.bottom, (this.options.filled ?? false) && line === shown[0]);
    }
    context.restore();

    if (this.data.lines.every((line) => line.points.length === 0)) {
      context.fillStyle = color("--muted");
      context.textBaseline = "middle";
      context.fillText("no data yet", (box.left + box.right) / 2, (box.top + box.bottom) / 2);
    }
    this.#drawCursor(context, shown, y, box, color);
  }

  /** @param {CanvasRenderingContext2D} context @param {[number, number][]} run @param {(value: number) => number} y @param {number} bottom @param {boolean} filled */
  #drawRun(context, run, y, bottom, filled) {
    const x = /** @type {(t: number) => number} */ (this.x);
    if (run.length === 1) {
      context.fillRect(x(run[0][0]) - 1.25, y(run[0][1]) - 1.25, 2.5, 2.5);
      return;
    }
    context.beginPath();
    run.forEach(([t, value], index) => (index ? context.lineTo(x(t), y(value)) : context.moveTo(x(t), y(value))));
    context.stroke();
    if (!filled) return;
    context.lineTo(x(run[run.length - 1][0]), bottom);
    context.lineTo(x(run[0][0]), bottom);
    context.globalAlpha = 0.12;
    context.fill();
    context.globalAlpha = 1;
  }

  /** @param {CanvasRenderingContext2D} context @param {Line[]} shown @param {(value: number) => number} y @param {{ left: number, right: number, top: number, bottom: number }} box @param {(name: string) => string} color */
  #drawCursor(context, shown, y, box, color) {
    const { cursor } = this;
    const x = /** @type {(t: number) => number} */ (this.x);
    if (cursor === null || cursor < this.data.start || cursor > this.data.end) {
      this.tip.hidden = true;
      return;
    }
    const at = x(cursor);
    context.strokeStyle = color("--muted");
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(at, box.top);
    context.lineTo(at, box.bottom);
    context.stroke();
    const rows = shown
      .map((line) => ({ line, value: nearest(line.points, cursor, this.data.step) }))
      .filter((row) => row.value !== null)
      .sort((a, b) => Number(b.value) - Number(a.value));
    for (const { line, value } of rows) {
      context.fillStyle = color(variable(line.color));
      context.beginPath();
      context.arc(at, y(Number(value)), 2.5, 0, 2 * Math.PI);
      context.fill();
    }
    const rest = rows.length - 12;
    const spread = this.data.end - this.data.start;
    this.tip.replaceChildren(
      h("div", { class: "muted" }, spread > 86400 ? moment(cursor * 1000) : clock(cursor * 1000)),
      ...rows.slice(0, 12).map(({ line, value }) => h("div", null, key(line), h("b", null, this.options.format(Number(value))), ` ${line.name}`)),
      rest > 0 ? h("div", { class: "muted" }, `and ${rest} more`) : "",
    );
    this.tip.hidden = false;
    // On the side with more room.
    const isLeft = at > (box.left + box.right) / 2;
    this.tip.style.left = isLeft ? "" : `${at + 10}px`;
    this.tip.style.right = isLeft ? `${this.plot.clientWidth - at + 10}px` : "";
  }

  /** @param {number} x within the canvas */
  #point(x) {
    if (this.time) this.#move(this.time(x));
  }

  /** @param {KeyboardEvent} event */
  #press(event) {
    const stride = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
    if (event.key === "Escape") this.#move(null);
    if (!stride) return;
    event.preventDefault();
    const { start, end, step } = this.data;
    this.#move(Math.min(end, Math.max(start, (this.cursor ?? end) + stride * step)));
    this.canvas.setAttribute("aria-label", this.tip.innerText.replaceAll("\n", ", "));
  }

  /** @param {number | null} t */
  #move(t) {
    const { start, step } = this.data;
    const snapped = t === null ? null : start + Math.round((t - start) / step) * step;
    if (snapped === this.cursor) return;
    this.cursor = snapped;
    this.draw();
  }
}

/** Points that follow each other without a gap. @param {[number, number][]} points @param {number} step @returns {[number, number][][]} */
function runs(points, step) {
  /** @type {[number, number][][]} */
  const out = [];
  let last = -Infinity;
  for (const point of points) {
    if (!Number.isFinite(point[1])) continue;
    if (point[0] - last > step * 1.5) out.push([]);
    out[out.length - 1].push(point);
    last = point[0];
  }
  return out;
}

/** @param {[number, number][]} points @param {number} t @param {number} step @returns {number | null} the value within half a step */
function nearest(points, t, step) {
  let low = 0;
  let high = points.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < t - step / 2) low = middle + 1; else high = middle;
  }
  const point = points[low];
  return point && point[0] <= t + step / 2 ? point[1] : null;
}

/** @param {Line[]} lines @param {number | undefined} top @param {number} countMax @param {boolean} binary @returns {number[]} from below the least to above the largest value */
function valueTicks(lines, top, countMax, binary) {
  let low = 0;
  let high = top ?? 0;
  for (const line of lines) {
    for (const [, value] of line.points) {
      if (!Number.isFinite(value)) continue;
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
  }
  // Lines far above zero are shown without it when nothing else was asked for.
  if (top === undefined && low === 0 && high > 0) {
    const least = lines.reduce((least, line) => line.points.reduce((least, [, value]) => (Number.isFinite(value) ? Math.min(least, value) : least), least), Infinity);
    if (least > high * 0.8 && least < high) low = least;
  }
  if (low === high) high = low + 1;
  const unit = binary ? 1024 ** Math.floor(Math.log(Math.max(high, 1)) / Math.log(1024)) : 1;
  const rough = (high - low) / unit / countMax;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((factor) => factor * power >= rough) ?? 10) * unit;
  const first = Math.floor(low / step + 1e-9);
  // A given upper end is that of the axis: ticks stay below it.
  const last = high === top ? Math.floor(high / step + 1e-9) : Math.ceil(high / step - 1e-9);
  return Array.from({ length: last - first + 1 }, (_, index) => Number(((first + index) * step).toPrecision(12)));
}

/** @param {number} start @param {number} end @param {number} countMax @returns {[number, string][]} on round local times */
function timeTicks(start, end, countMax) {
  const step = TIME_STEPS.find((size) => (end - start) / size <= countMax) ?? TIME_STEPS[TIME_STEPS.length - 1];
  if (end <= start) return [];
  const offset = new Date(end * 1000).getTimezoneOffset() * 60;
  /** @type {[number, string][]} */
  const out = [];
  for (let t = Math.ceil((start - offset) / step) * step + offset; t <= end; t += step) {
    const text = moment(t * 1000);
    out.push([t, step >= 86400 ? text.slice(5, 10) : step < 60 ? text.slice(11) : end - start > 86400 && text.slice(11, 16) === "00:00" ? text.slice(5, 10) : text.slice(11, 16)]);
  }
  return out;
}
