// @ts-check
// Starts the page, and refreshes it every 5 seconds while somebody can see it.

import { ApiError, ask, nowMs } from "./api.js";
import { byId } from "./dom.js";
import { clock, parseDuration } from "./format.js";
import { Machine } from "./machine.js";
import { Query } from "./query.js";
import { showAlerts, showBudget, showForward, showLosses, showNotices, showTargets } from "./status.js";

const REFRESH_MS = 5000;
const THEMES = ["Auto", "Light", "Dark"];

const machine = new Machine();
const query = new Query();
let isPaused = false;
let isRefreshing = false;
/** @type {number | undefined} */
let timer;
let goodMs = 0;

async function refresh() {
  if (isRefreshing) return;
  isRefreshing = true;
  clearTimeout(timer);
  // One part that fails must not keep the others from what they know.
  const results = await Promise.allSettled([refreshState(), query.refresh()]);
  // After the state, which tells what the machine's labels and scrape interval are.
  results.push(...await Promise.allSettled([machine.refresh()]));
  const failed = results.find((result) => result.status === "rejected");
  if (failed) showFailure(failed.reason);
  else {
    goodMs = Date.now();
    byId("refreshed").textContent = clock(goodMs);
    byId("banner").hidden = true;
  }
  isRefreshing = false;
  schedule();
}

function schedule() {
  clearTimeout(timer);
  if (!isPaused && !document.hidden) timer = setTimeout(refresh, REFRESH_MS);
}

async function refreshState() {
  const [targets, alerts, status] = await Promise.all([ask("targets?state=active"), ask("alerts"), ask("status/holdfast")]);
  const now = nowMs();
  const down = showTargets(targets.data.activeTargets, now);
  const { firing, pending } = showAlerts(alerts.data.alerts, now);
  /** @type {import("./api.js").Status} */
  const own = status.data;
  showBudget(own, now);
  const failing = showForward(own.forward);
  showLosses(own.losses ?? [], now);
  showNotices(own.notices);

  byId("version").textContent = own.version;
  const host = own.host ?? null;
  machine.setHost(host);
  const instance = host?.instance ?? location.host;
  byId("instance").textContent = instance;
  document.title = `${firing ? `(${firing}) ` : ""}${instance} – ${own.title}`;
  const nodes = targets.data.activeTargets.filter((/** @type {any} */ target) => target.labels.job === (host?.job ?? "node"));
  machine.intervalSeconds = Math.max(...nodes.map((/** @type {any} */ target) => parseDuration(target.scrapeInterval ?? "") ?? 15), 1);
  summarise({ firing, pending, down, failing, notices: own.notices.length });
}

/** @param {{ firing: number, pending: number, down: number, failing: number, notices: number }} counts */
function summarise({ firing, pending, down, failing, notices }) {
  const pill = byId("summary");
  const worst = [firing && `${firing} firing`, down && `${down} down`, failing && `${failing} not forwarding`].filter(Boolean);
  const lesser = [pending && `${pending} pending`, notices && `${notices} ${notices === 1 ? "notice" : "notices"}`].filter(Boolean);
  pill.className = `pill ${worst.length ? "bad" : lesser.length ? "warn" : "good"}`;
  const text = [...worst, ...lesser].slice(0, 3).join(", ") || "All well";
  // The element is announced when it changes, so it must not be rewritten with the same words.
  if (pill.textContent !== text) pill.textContent = text;
}

/** @param {unknown} error */
function showFailure(error) {
  const banner = byId("banner");
  const since = goodMs ? ` What stands below is from ${clock(goodMs)}.` : "";
  const text = error instanceof ApiError && error.status === 0
    ? `Holdfast does not answer.${since} Trying again every 5 seconds.`
    : `Could not refresh: ${error instanceof Error ? error.message : String(error)}.${since}`;
  if (banner.textContent !== text) banner.textContent = text;
  banner.hidden = false;
  byId("summary").className = "pill bad";
  byId("summary").textContent = "No answer";
  if (!(error instanceof ApiError)) console.error(error);
}

/** Overview and query are one page; the address decides which stands first. */
function showView() {
  const isGraph = /\/graph$/.test(location.pathname);
  const view = isGraph ? "graph" : "overview";
  // Its first part has changed, so that is what to look at.
  if (document.body.dataset.view !== view) scrollTo(0, 0);
  document.body.dataset.view = view;
  for (const link of document.querySelectorAll("nav a")) {
    if (/** @type {HTMLElement} */ (link).dataset.view === document.body.dataset.view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function startViews() {
  showView();
  query.open();
  for (const link of document.querySelectorAll("nav a")) {
    link.addEventListener("click", (event) => {
      const { ctrlKey, metaKey, shiftKey } = /** @type {MouseEvent} */ (event);
      if (ctrlKey || metaKey || shiftKey) return;
      event.preventDefault();
      history.pushState(null, "", /** @type {HTMLAnchorElement} */ (link).href);
      showView();
      query.open();
      if (document.body.dataset.view === "graph") byId("expr").focus();
    });
  }
  addEventListener("popstate", () => { showView(); query.open(); });
  document.addEventListener("holdfast-view", showView);
}

function startTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const button = byId("theme");
  let theme = THEMES.includes(localStorage.getItem("theme") ?? "") ? String(localStorage.getItem("theme")) : "Auto";
  const apply = () => {
    byId("theme-name").textContent = theme;
    document.documentElement.dataset.theme = theme === "Dark" || (theme === "Auto" && dark.matches) ? "dark" : "light";
    // Charts take their colours from the style when they draw.
    for (const { chart } of machine.cards) chart.draw();
    query.graph?.chart.draw();
  };
  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    localStorage.setItem("theme", theme);
    apply();
  });
  dark.addEventListener("change", apply);
  apply();
}

byId("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  byId("pause").setAttribute("aria-pressed", String(isPaused));
  byId("pause").textContent = isPaused ? "Resume" : "Pause";
  if (isPaused) schedule(); else refresh();
});
document.addEventListener("visibilitychange", () => { if (document.hidden) schedule(); else if (!isPaused) refresh(); });
startTheme();
startViews();
refresh();
