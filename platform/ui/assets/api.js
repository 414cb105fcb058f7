// @ts-check
// Asking the daemon. All addresses are relative, so that the page works under any route prefix.

/**
 * @typedef {{ metric: Record<string, string>, value?: [number, string], values?: [number, string][] }} Series
 * @typedef {{ resultType: "vector" | "matrix", result: Series[] } | { resultType: "scalar" | "string", result: [number, string] }} Result
 *
 * What `api/v1/status/holdfast` gives as `data`. Sizes in bytes, times in milliseconds since 1970; null means unknown.
 * @typedef {object} Status
 * @property {string} version
 * @property {string} title `--web.page-title`
 * @property {{ job: string, instance: string } | null} [host] labels of the built-in host metrics; null when switched off
 * @property {{ limit_bytes: number, resident_bytes: number, resident_peak_bytes: number,
 *   regions: { name: string, used_bytes: number, total_bytes: number }[] }} memory
 * @property {{ used_bytes: number, quota_bytes: number, oldest_ms: number | null }} disk
 * @property {{ series: number, series_max?: number, samples_appended: number, rows_in_ram: number }} store
 * @property {{ name: string, url: string, lag_rows: number, lag_ms: number, last_error: string | null, sent_samples: number }[]} forward
 * @property {{ reason: string, help: string, unit: string, count: number, events: number,
 *   newest: { subject: string, from: string | null, to: string | null, noted_last: string } }[]} [losses] whatever was ever dropped
 * @property {string[]} notices what the operator should know, in words
 */

/** At most this many requests at a time: the daemon is one thread on a small board. */
const PARALLEL_COUNT_MAX = 2;

let running = 0;
/** @type {(() => void)[]} */
const waiting = [];

/** How far the daemon's clock is ahead of this browser's: a box without a battery-backed clock may live in another year. */
let aheadMs = 0;
/** Differences up to here are network and rounding, not clocks. */
const AHEAD_MS_MIN = 2000;

/** The daemon's clock. @returns {number} milliseconds since 1970 */
export const nowMs = () => Date.now() + aheadMs;

/** @returns {number} milliseconds by which the daemon's clock is ahead of this browser's; 0 when they agree */
export const clockAheadMs = () => aheadMs;

/** An answer that is an error, with the daemon's own words. */
export class ApiError extends Error {
  /** @param {string} message @param {number} status HTTP status; 0 when there was no answer */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/**
 * @param {string} path below `api/v1/`
 * @param {Record<string, string | number>} [parameters] sent as a form, because expressions can be longer than URLs
 * @param {AbortSignal} [signal]
 * @returns {Promise<{ data: any, warnings: string[] }>}
 */
export async function ask(path, parameters, signal) {
  if (running >= PARALLEL_COUNT_MAX) await new Promise((go) => waiting.push(() => go(undefined)));
  running += 1;
  try {
    return await fetchEnvelope(path, parameters, signal);
  } finally {
    running -= 1;
    waiting.shift()?.();
  }
}

/** @param {string} path @param {Record<string, string | number> | undefined} parameters @param {AbortSignal | undefined} signal */
async function fetchEnvelope(path, parameters, signal) {
  /** @type {RequestInit} */
  const options = { signal, headers: { accept: "application/json" } };
  if (parameters) {
    const form = new URLSearchParams();
    for (const [name, value] of Object.entries(parameters)) form.set(name, String(value));
    Object.assign(options, { method: "POST", body: form });
  }
  let response;
  try {
    response = await fetch(`api/v1/${path}`, options);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError("no answer", 0);
  }
  let envelope;
  try {
    envelope = await response.json();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(`HTTP ${response.status} without a JSON body`, response.status);
  }
  if (envelope.status !== "success") throw new ApiError(envelope.error ?? `HTTP ${response.status}`, response.status);
  return { data: envelope.data, warnings: envelope.warnings ?? [] };
}

/** @param {string} query @param {number} start seconds @param {number} end seconds @param {number} step seconds @returns {Promise<Series[]>} */
export async function range(query, start, end, step) {
  const { data } = await ask("query_range", { query, start, end, step });
  return data.result;
}

/** Evaluated at the daemon's present, whose clock is learnt from the answer. @param {string} query @returns {Promise<Series[]>} */
export async function instant(query) {
  const { data } = await ask("query", { query });
  const at = data.result[0]?.value?.[0];
  if (typeof at === "number") {
    const difference = at * 1000 - Date.now();
    aheadMs = Math.abs(difference) < AHEAD_MS_MIN ? 0 : Math.abs(difference - aheadMs) < AHEAD_MS_MIN ? aheadMs : difference;
  }
  return data.result;
}
