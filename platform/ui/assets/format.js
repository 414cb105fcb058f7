// @ts-check
// Numbers, times and label sets as text.

const DASH = "–";

/** @param {unknown} value @returns {value is number} */
export const known = (value) => typeof value === "number" && Number.isFinite(value);

/** Three significant digits without trailing zeros. @param {number} value */
const three = (value) => String(Number(value.toPrecision(Math.abs(value) >= 1000 ? 4 : 3)));

/** @param {number | null | undefined} value bytes @returns {string} in binary units */
export function bytes(value) {
  if (!known(value)) return DASH;
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let index = 0;
  while (Math.abs(value) >= 1024 && index < units.length - 1) { value /= 1024; index += 1; }
  return `${three(value)} ${units[index]}`;
}

/** @param {number | null | undefined} value bytes per second */
export const byteRate = (value) => (known(value) ? `${bytes(value)}/s` : DASH);

/** @param {number | null | undefined} value */
export const percent = (value) => (known(value) ? `${value >= 10 || value === 0 ? Math.round(value) : value.toFixed(1)} %` : DASH);

/** @param {number | null | undefined} value @returns {string} grouped, whole */
export const count = (value) => (known(value) ? Math.round(value).toLocaleString("en").replaceAll(",", "\u202f") : DASH);

/** A number of unknown unit, short. @param {number} value */
export function short(value) {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "+Inf" : "-Inf";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 1e15 || size < 1e-6) return value.toExponential(2);
  for (const [limit, unit] of /** @type {[number, string][]} */ ([[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]])) {
    if (size >= limit) return three(value / limit) + unit;
  }
  if (size < 1e-3) return `${three(value * 1e6)}µ`;
  return three(value);
}

/** The value of a sample as served, shortened only where digits say nothing. @param {string} text */
export const sample = (text) => (text.length > 17 && Number.isFinite(Number(text)) ? String(Number(Number(text).toPrecision(12))) : text);

/** @param {number | null | undefined} ms @returns {string} the two largest units */
export function duration(ms) {
  if (!known(ms)) return DASH;
  if (ms < 0) return `-${duration(-ms)}`;
  if (ms < 1000) return `${three(ms)} ms`;
  const s = ms / 1000;
  if (s < 60) return `${s < 10 ? three(s) : Math.round(s)} s`;
  const units = /** @type {[number, string][]} */ ([[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]]);
  const first = units.findIndex(([size]) => s >= size);
  const [size, unit] = units[first];
  const whole = Math.floor(s / size);
  const next = units[first + 1];
  const rest = next ? Math.floor((s - whole * size) / next[0]) : 0;
  return rest && whole < 100 ? `${whole} ${unit} ${rest} ${next[1]}` : `${whole} ${unit}`;
}

/** @param {number} ms since 1970 @param {number} nowMs */
export const ago = (ms, nowMs) => (ms > nowMs + 1500 ? `in ${duration(ms - nowMs)}` : `${duration(Math.max(0, Math.round((nowMs - ms) / 1000) * 1000)).replace(/^0 ms$/, "0 s")} ago`);

/** Prometheus' durations: 1h30m, 15s, 2w, or plain seconds. @param {string} text @returns {number | null} seconds */
export function parseDuration(text) {
  const trimmed = text.trim();
  if (/^\d+(\.\d+)?$/.test(trimmed)) return Number(trimmed) > 0 ? Number(trimmed) : null;
  if (!/^(\d+(ms|[smhdwy]))+$/.test(trimmed)) return null;
  const sizes = /** @type {Record<string, number>} */ ({ ms: 0.001, s: 1, m: 60, h: 3600, d: 86400, w: 604800, y: 31536000 });
  let seconds = 0;
  for (const [, number, unit] of trimmed.matchAll(/(\d+)(ms|[smhdwy])/g)) seconds += Number(number) * sizes[unit];
  return seconds > 0 ? seconds : null;
}

const two = (/** @type {number} */ value) => String(value).padStart(2, "0");

/** @param {number} ms since 1970 @returns {string} local time of day */
export function clock(ms) {
  const at = new Date(ms);
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** @param {number} ms since 1970 @returns {string} local date and time; also what datetime-local takes, with a T */
export function moment(ms) {
  const at = new Date(ms);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${clock(ms)}`;
}

/** @param {Record<string, string>} metric @returns {string} as PromQL writes it */
export function seriesName(metric) {
  const { __name__: name = "", ...labels } = metric;
  const inner = Object.entries(labels).map(([label, value]) => `${label}=${JSON.stringify(value)}`).join(", ");
  return inner || !name ? `${name}{${inner}}` : name;
}
