// @ts-check
// What the daemon itself is doing: targets, alerts, budgets, forwarding, notices.

import { byId, h, meter, patch } from "./dom.js";
import { ago, bytes, count, duration, known, percent } from "./format.js";

/** More rows than these say nothing at a glance, and cost a phone much. Sick targets and firing alerts come first. */
const ROW_COUNT_MAX = 100;

/** Instants before this are "never": the API's zero time. */
const EPOCH_MS = Date.parse("1971-01-01T00:00:00Z");

/**
 * @typedef {{ labels: Record<string, string>, scrapePool: string, scrapeUrl: string, lastError: string, lastScrape: string,
 *   lastScrapeDuration: number, health: string, scrapeInterval?: string }} Target
 * @typedef {{ labels: Record<string, string>, annotations: Record<string, string>, state: string, activeAt: string, value: string }} Alert
 * @typedef {import("./api.js").Status} Status
 */

const HEALTH = /** @type {Record<string, { grade: string, order: number }>} */ ({
  down: { grade: "bad", order: 0 },
  unknown: { grade: "muted", order: 1 },
  up: { grade: "good", order: 2 },
});

/** @param {Target[]} targets @param {number} nowMs @returns {number} how many are down */
export function showTargets(targets, nowMs) {
  const health = (/** @type {Target} */ target) => HEALTH[target.health] ?? HEALTH.unknown;
  const sorted = [...targets].sort((a, b) => health(a).order - health(b).order || a.scrapePool.localeCompare(b.scrapePool) || a.scrapeUrl.localeCompare(b.scrapeUrl));
  const down = targets.filter((target) => target.health === "down").length;
  const up = targets.filter((target) => target.health === "up").length;
  const waiting = targets.length - up - down;
  byId("targets-about").textContent = [`${up} up`, down && `${down} down`, waiting && `${waiting} not scraped yet`].filter(Boolean).join(", ");
  const rows = sorted.slice(0, ROW_COUNT_MAX).map((target) => {
    const at = Date.parse(target.lastScrape);
    const { job = target.scrapePool, instance = "", ...others } = target.labels;
    const more = Object.entries(others).map(([label, value]) => `${label}=${JSON.stringify(value)}`).join(", ");
    return h("tr", null,
      h("td", null, h("span", { class: `state ${health(target).grade}` }, target.health)),
      h("td", { class: "wide" },
        h("div", null, h("b", null, job), instance && ` ${instance}`),
        h("div", { class: "small" }, target.scrapeUrl, more && ` · ${more}`),
        target.lastError && h("div", { class: "error" }, target.lastError)),
      h("td", { class: "number" }, at > EPOCH_MS ? ago(at, nowMs) : "never"),
      h("td", { class: "number" }, at > EPOCH_MS ? duration(target.lastScrapeDuration * 1000) : "–"));
  });
  const left = sorted.length - rows.length;
  if (left > 0) rows.push(h("tr", null, h("td", { colspan: 4, class: "muted" }, `and ${left} more`)));
  if (rows.length === 0) rows.push(h("tr", null, h("td", { colspan: 4, class: "muted" }, "No targets: name some under scrape_configs in the configuration.")));
  patch(/** @type {Element} */ (byId("targets").querySelector("tbody")), rows);
  return down;
}

/** @param {Alert[]} alerts @param {number} nowMs @returns {{ firing: number, pending: number }} */
export function showAlerts(alerts, nowMs) {
  const firing = alerts.filter((alert) => alert.state === "firing").length;
  const pending = alerts.length - firing;
  byId("alerts-about").textContent = alerts.length ? [`${firing} firing`, pending && `${pending} pending`].filter(Boolean).join(", ") : "";
  const sorted = [...alerts].sort((a, b) => Number(b.state === "firing") - Number(a.state === "firing") || Date.parse(a.activeAt) - Date.parse(b.activeAt));
  const rows = sorted.slice(0, ROW_COUNT_MAX).map(({ labels, annotations, state, activeAt }) => {
    const { alertname = "", ...others } = labels;
    const text = annotations.summary ?? annotations.description ?? annotations.message;
    return h("div", null,
      h("div", { class: "pair" },
        h("span", null, h("span", { class: `state ${state === "firing" ? "bad" : "warn"}` }, state), " ", h("b", null, alertname)),
        h("span", { class: "muted" }, `for ${duration(Math.max(0, Math.round((nowMs - Date.parse(activeAt)) / 1000) * 1000))}`)),
      text && h("div", null, text),
      h("div", { class: "small" }, Object.entries(others).map(([label, value]) => `${label}=${JSON.stringify(value)}`).join(", ")));
  });
  if (sorted.length > rows.length) rows.push(h("div", { class: "muted" }, `and ${sorted.length - rows.length} more`));
  patch(byId("alerts"), rows.length ? rows : [h("div", { class: "empty" }, "No alert is firing or pending.")]);
  return { firing, pending };
}

/** Samples appended, as seen in the last minute, oldest first: between two refreshes there may be no scrape at all. @type {{ atMs: number, samples: number }[]} */
let seen = [];
const SEEN_MS_MAX = 60_000;
const SEEN_MS_MIN = 15_000;

/** @param {number} samples @param {number} nowMs @returns {number | null} samples per second; null while too little was seen */
function appendRate(samples, nowMs) {
  const last = seen.at(-1);
  // Another process, or a clock that went back.
  if (last && (samples < last.samples || nowMs < last.atMs)) seen = [];
  if (!seen.length || nowMs - seen[seen.length - 1].atMs >= 4000) seen.push({ atMs: nowMs, samples });
  while (nowMs - seen[0].atMs > SEEN_MS_MAX) seen.shift();
  const spanMs = nowMs - seen[0].atMs;
  return spanMs >= SEEN_MS_MIN ? ((samples - seen[0].samples) * 1000) / spanMs : null;
}

/** @param {Status} status @param {number} nowMs */
export function showBudget({ memory, disk, store }, nowMs) {
  const rate = appendRate(store.samples_appended, nowMs);
  byId("budget-about").textContent = known(disk.oldest_ms) ? `history of ${duration(Math.max(0, nowMs - disk.oldest_ms))}` : "";
  const old = byId("budget").querySelector("details");
  const regions = [...memory.regions].sort((a, b) => b.total_bytes - a.total_bytes);
  patch(byId("budget"), [
    h("div", { class: "pair" }, h("b", null, "Memory"), h("span", null, `${bytes(memory.resident_bytes)} of ${bytes(memory.limit_bytes)}`, h("span", { class: "muted" }, ` peak ${bytes(memory.resident_peak_bytes)}`))),
    meter(memory.resident_peak_bytes, memory.limit_bytes, "Memory budget, peak"),
    h("div", { class: "pair" }, h("b", null, "Disk"), h("span", null, `${bytes(disk.used_bytes)} of ${bytes(disk.quota_bytes)}`, h("span", { class: "muted" }, ` ${percent((100 * disk.used_bytes) / (disk.quota_bytes || 1))}`))),
    // Not graded: a full quota is the normal state, the oldest history goes first.
    gauge(disk.used_bytes, disk.quota_bytes),
    h("div", { class: "facts" },
      h("div", null, h("b", null, count(store.series)), known(store.series_max) ? `of ${count(store.series_max)} series` : "series"),
      h("div", null, h("b", null, known(rate) ? count(rate) : "–"), "samples per second"),
      h("div", null, h("b", null, count(store.rows_in_ram)), "rows in memory")),
    h("details", { open: old?.open ?? false },
      h("summary", null, `Memory by region (${regions.length})`),
      h("div", { class: "fine" }, regions.flatMap((region) => [
        h("div", { class: "pair" }, h("span", null, region.name), h("span", { class: "muted" }, `${bytes(region.used_bytes)} of ${bytes(region.total_bytes)}`)),
        gauge(region.used_bytes, region.total_bytes),
      ]))),
  ]);
}

/** A meter that fills in the normal course of things, so without warning colours. @param {number} used @param {number} total */
function gauge(used, total) {
  const bar = meter(used, total, "in use");
  bar.className = "meter";
  return bar;
}

/** @param {Status["forward"]} forward @returns {number} how many report an error */
export function showForward(forward) {
  const failing = forward.filter((upstream) => upstream.last_error).length;
  byId("forward-about").textContent = forward.length ? [`${forward.length - failing} in order`, failing && `${failing} failing`].filter(Boolean).join(", ") : "";
  const rows = forward.map((upstream) => h("div", null,
    h("div", { class: "pair" },
      h("span", null, h("span", { class: `state ${upstream.last_error ? "bad" : upstream.lag_rows > 0 && upstream.lag_ms > 60000 ? "warn" : "good"}` }, upstream.name || "upstream")),
      h("span", null, upstream.lag_rows > 0 ? `${duration(upstream.lag_ms)} behind` : "up to date")),
    h("div", { class: "small" }, upstream.url),
    h("div", { class: "small" }, `${count(upstream.sent_samples)} samples sent, ${count(upstream.lag_rows)} rows waiting`),
    upstream.last_error && h("div", { class: "error" }, upstream.last_error)));
  patch(byId("forward"), rows.length ? rows : [h("div", { class: "empty" }, "Nothing is forwarded: name an upstream under remote_write in the configuration.")]);
  return failing;
}

/** @param {NonNullable<Status["losses"]>} losses @param {number} nowMs */
export function showLosses(losses, nowMs) {
  byId("losses-about").textContent = losses.length ? "since the store was made" : "";
  const rows = losses.map(({ reason, help, unit, count: lost, events, newest }) => h("div", null,
    h("div", { class: "pair" },
      h("b", null, reason.replaceAll("_", " ")),
      h("span", null, lost > 0 ? `${count(lost)} ${unit}` : `${count(events)} times`)),
    h("div", { class: "small" }, help),
    h("div", { class: "small" }, `last: ${[newest.subject, newest.from && (newest.from === newest.to ? newest.from : `${newest.from} to ${newest.to}`)].filter(Boolean).join(", ")}, noted ${ago(Date.parse(newest.noted_last), nowMs)}`)));
  patch(byId("losses"), rows.length ? rows : [h("div", { class: "empty" }, "Nothing was ever dropped.")]);
}

/** @param {string[]} notices */
export function showNotices(notices) {
  patch(byId("notices"), notices.map((text) => h("div", { class: "banner warn" }, text)));
}
