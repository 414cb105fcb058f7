// @ts-check
// "This machine": charts of the host metrics, the daemon's own or a node_exporter's, which have the same names.

import { clockAheadMs, instant, nowMs, range } from "./api.js";
import { Chart, key } from "./chart.js";
import { byId, choice, h, meter, patch } from "./dom.js";
import { byteRate, bytes, duration, known, parseDuration, percent, short } from "./format.js";

const RANGES = ["15m", "1h", "6h", "1d", "7d"];
/** Points per chart: enough for the cards' width. */
const POINT_COUNT = 120;
/** Windows of rate() hold at least this many scrapes. */
const SCRAPES_PER_WINDOW = 4;
const FILE_SYSTEM_COUNT_MAX = 6;
/** A difference of clocks that is worth saying. */
const CLOCK_NOTICE_MS = 60000;
/** What is shown, in seconds, while the history is shorter than the chosen range. */
const SHORT_RANGES = [300, 900, 3600, 21600, 86400];

/** Partitions and layers of disks that are counted as a whole already. */
const DISKS = "device!~\"mmcblk[0-9]+p[0-9]+|dm-[0-9]+|md[0-9]+\"";
/** Interfaces that carry what others carry already. */
const LINKS = "device!~\"lo|ifb[0-9]+|veth.*|docker.*|br-.*|cni.*|flannel.*|cali.*|tap.*|virbr.*\"";

/** What is asked once per refresh, for the words beside the charts. */
const FACTS = "node_uname_info|node_os_info|node_boot_time_seconds|node_time_seconds|node_load1|node_load5|node_load15|node_memory_MemTotal_bytes|node_memory_SwapTotal_bytes|node_memory_SwapFree_bytes|node_thermal_zone_temp|node_filesystem_size_bytes|node_filesystem_avail_bytes|node_filesystem_free_bytes|node_filesystem_readonly";

/**
 * @typedef {{ metric: Record<string, string>, value: number }} Fact
 * @typedef {{ facts: Record<string, Fact[]>, cpuCount: number | null }} Facts
 * @typedef {object} Card
 * @property {string} title
 * @property {(value: number) => string} format
 * @property {boolean} [binary]
 * @property {(facts: Facts) => number | undefined} [top]
 * @property {[string, (selector: string, window: string) => string][]} lines name and query; `selector` ends in a comma
 * @property {number} newestCount of how many lines, from the first, `now` and `under` want the newest value
 * @property {(newest: (number | null)[], facts: Facts) => string} now the large figure
 * @property {(newest: (number | null)[], facts: Facts) => string[]} [under] the words below it
 * @typedef {{ card: Card, now: HTMLElement, under: HTMLElement, chart: Chart, shows: string }} View
 * @typedef {{ start: number, end: number, step: number, window: string }} Plan times in seconds; `window` of rate()
 */

/** @param {Facts} facts @param {string} name @returns {number | null} */
const one = (facts, name) => facts.facts[name]?.[0]?.value ?? null;

/** @type {Card[]} */
const CARDS = [
  {
    title: "CPU",
    format: percent,
    top: () => 100,
    lines: [
      ["busy", (selector, window) => `100 * (1 - avg(rate(node_cpu_seconds_total{${selector}mode="idle"}[${window}])))`],
      ["waiting for disks", (selector, window) => `100 * avg(rate(node_cpu_seconds_total{${selector}mode="iowait"}[${window}]))`],
    ],
    newestCount: 1,
    now: ([busy]) => percent(busy),
    under: (_, facts) => {
      const hottest = Math.max(...(facts.facts.node_thermal_zone_temp ?? []).map((fact) => fact.value));
      return [
        known(facts.cpuCount) ? `${facts.cpuCount} ${facts.cpuCount === 1 ? "core" : "cores"}` : "",
        Number.isFinite(hottest) ? `${hottest.toFixed(0)} °C` : "",
      ];
    },
  },
  {
    title: "Memory",
    format: bytes,
    binary: true,
    top: (facts) => one(facts, "node_memory_MemTotal_bytes") ?? undefined,
    lines: [
      ["used", (selector) => `node_memory_MemTotal_bytes{${selector}} - node_memory_MemAvailable_bytes{${selector}}`],
      ["cached", (selector) => `node_memory_Cached_bytes{${selector}} + node_memory_Buffers_bytes{${selector}}`],
    ],
    newestCount: 1,
    now: ([used]) => bytes(used),
    under: ([used], facts) => {
      const total = one(facts, "node_memory_MemTotal_bytes");
      const swap = one(facts, "node_memory_SwapTotal_bytes");
      const swapFree = one(facts, "node_memory_SwapFree_bytes");
      return [
        known(total) ? `of ${bytes(total)}${known(used) ? ` (${percent((100 * used) / total)})` : ""}` : "",
        known(swap) && known(swapFree) && swap > 0 ? `swap ${bytes(swap - swapFree)} of ${bytes(swap)}` : "",
      ];
    },
  },
  {
    title: "Load",
    format: short,
    top: (facts) => facts.cpuCount ?? undefined,
    lines: [
      ["1 min", (selector) => `node_load1{${selector}}`],
      ["15 min", (selector) => `node_load15{${selector}}`],
    ],
    newestCount: 0,
    now: (_, facts) => { const load = one(facts, "node_load1"); return known(load) ? load.toFixed(2) : "–"; },
    under: (_, facts) => {
      const [five, fifteen] = [one(facts, "node_load5"), one(facts, "node_load15")];
      return [known(five) && known(fifteen) ? `5 min ${five.toFixed(2)}, 15 min ${fifteen.toFixed(2)}` : ""];
    },
  },
  {
    title: "Network",
    format: byteRate,
    binary: true,
    lines: [
      ["received", (selector, window) => `sum(rate(node_network_receive_bytes_total{${selector}${LINKS}}[${window}]))`],
      ["sent", (selector, window) => `sum(rate(node_network_transmit_bytes_total{${selector}${LINKS}}[${window}]))`],
    ],
    newestCount: 2,
    now: ([received, sent]) => (known(received) && known(sent) ? byteRate(received + sent) : "–"),
  },
  {
    title: "Disk traffic",
    format: byteRate,
    binary: true,
    lines: [
      ["written", (selector, window) => `sum(rate(node_disk_written_bytes_total{${selector}${DISKS}}[${window}]))`],
      ["read", (selector, window) => `sum(rate(node_disk_read_bytes_total{${selector}${DISKS}}[${window}]))`],
    ],
    newestCount: 2,
    now: ([written, read]) => (known(written) && known(read) ? byteRate(written + read) : "–"),
  },
];

export class Machine {
  constructor() {
    this.range = RANGES.includes(localStorage.getItem("range") ?? "") ? String(localStorage.getItem("range")) : "1h";
    choice(byId("machine-range"), RANGES, this.range, (name) => {
      this.range = name;
      localStorage.setItem("range", name);
      this.refresh().catch(() => { /* The next refresh of the page tells. */ });
    });
    this.pick = /** @type {HTMLSelectElement} */ (byId("machine-pick"));
    this.pick.addEventListener("change", () => this.refresh().catch(() => { /* as above */ }));
    this.cards = CARDS.map((card) => {
      const now = h("span", { class: "now" });
      const under = h("div", { class: "under muted" });
      const element = h("article", { class: "card" }, h("div", { class: "top" }, h("h3", null, card.title), now), under);
      const chart = new Chart(element, { height: 120, format: card.format, label: card.title, binary: card.binary, filled: true });
      return { card, element, now, under, chart, shows: "" };
    });
    this.disks = h("div", { class: "fine" });
    byId("machine-cards").append(
      ...this.cards.map(({ element }) => element),
      h("article", { class: "card" }, h("div", { class: "top" }, h("h3", null, "File systems")), this.disks),
    );
    /** @type {{ job: string, instance: string } | null} */
    this.host = null;
    this.intervalSeconds = 15;
    this.turn = 0;
    /** The machine and range whose history is known to be long enough. */
    this.filled = "";
  }

  /** @param {{ job: string, instance: string } | null | undefined} host labels of the built-in metrics, when they are known */
  setHost(host) {
    this.host = host ?? null;
  }

  async refresh() {
    this.turn += 1;
    const { turn } = this;
    const selector = await this.#selector();
    const about = byId("machine-about");
    if (turn !== this.turn) return;
    byId("machine-cards").hidden = selector === null;
    if (selector === null) {
      about.textContent = "No host metrics yet: they come with the first scrape of the built-in target, or of a node_exporter.";
      return;
    }
    const facts = await loadFacts(selector);
    if (turn !== this.turn) return;
    about.textContent = describe(facts);
    this.#showDisks(facts);
    const plan = await this.#plan(selector);
    await Promise.all(this.cards.map(async (view) => {
      const recent = `${this.intervalSeconds * SCRAPES_PER_WINDOW}s`;
      const found = await Promise.all(view.card.lines.slice(0, view.card.newestCount).map(([, query]) => instant(query(selector, recent))));
      if (turn !== this.turn) return;
      const newest = found.map((result) => (result[0]?.value ? Number(result[0].value[1]) : null));
      view.now.textContent = view.card.now(newest, facts);
      const words = (view.card.under?.(newest, facts) ?? []).filter(Boolean);
      patch(view.under, [
        ...words.map((text) => h("span", null, text)),
        ...view.card.lines.map(([name], color) => h("span", null, key({ name, color, points: [] }), name)),
      ]);
      await this.#draw(view, selector, plan, facts);
    }));
  }

  /** Lines are asked for anew only when there is a new point to show: a week's rates are dear on a small board. @param {View} view @param {string} selector @param {Plan} plan @param {Facts} facts */
  async #draw(view, selector, plan, facts) {
    const { start, end, step, window } = plan;
    const shows = [selector, start, end].join(" ");
    if (view.shows === shows) return;
    const answers = await Promise.all(view.card.lines.map(([, query]) => range(query(selector, window), start, end, step)));
    const lines = view.card.lines.map(([name], index) => ({
      name,
      color: index,
      points: /** @type {[number, number][]} */ ((answers[index][0]?.values ?? []).map(([t, value]) => [t, Number(value)])),
    }));
    view.chart.set({ lines, start, end, step, top: view.card.top?.(facts) });
    view.shows = shows;
  }

  /** Which instants the charts show: those of the chosen range, or fewer while there is less history. @param {string} selector @returns {Promise<Plan>} */
  async #plan(selector) {
    const chosen = parseDuration(this.range) ?? 3600;
    const wanted = this.#instants(chosen);
    const filled = `${selector} ${this.range}`;
    if (this.filled === filled) return wanted;
    const load = await range(`node_load1{${selector}}`, wanted.start, wanted.end + wanted.step, wanted.step);
    const first = load[0]?.values?.[0]?.[0] ?? wanted.end;
    if (first - wanted.start < chosen / 2) {
      this.filled = filled;
      return wanted;
    }
    const history = nowMs() / 1000 - first + wanted.step;
    return this.#instants(SHORT_RANGES.find((seconds) => seconds >= history && seconds < chosen) ?? chosen);
  }

  /** @param {number} span seconds @returns {Plan} on a grid of steps, so that a chart slides instead of being sampled anew */
  #instants(span) {
    const step = Math.max(5, Math.ceil(span / POINT_COUNT / 5) * 5);
    const end = Math.floor(nowMs() / 1000 / step) * step;
    const window = `${Math.max(step, this.intervalSeconds * SCRAPES_PER_WINDOW)}s`;
    return { start: end - Math.floor(span / step) * step, end, step, window };
  }

  /** Which machine: the daemon's own host, or the one picked where several are scraped. @returns {Promise<string | null>} */
  async #selector() {
    const found = await instant("node_uname_info");
    const machines = found.map(({ metric }) => ({ job: metric.job ?? "", instance: metric.instance ?? "" }));
    machines.sort((a, b) => a.instance.localeCompare(b.instance) || a.job.localeCompare(b.job));
    if (machines.length === 0) return null;
    const name = (/** @type {{ job: string, instance: string }} */ { job, instance }) => `${instance} (${job})`;
    const own = machines.find(({ job, instance }) => job === this.host?.job && instance === this.host?.instance);
    const current = machines.find((machine) => name(machine) === this.pick.value) ?? own ?? machines[0];
    patch(this.pick, machines.map((machine) => h("option", null, name(machine))));
    this.pick.value = name(current);
    this.pick.hidden = machines.length < 2;
    return `job=${JSON.stringify(current.job)},instance=${JSON.stringify(current.instance)},`;
  }

  /** @param {Facts} facts */
  #showDisks(facts) {
    const find = (/** @type {string} */ name, /** @type {Fact} */ of) =>
      facts.facts[name]?.find(({ metric }) => metric.mountpoint === of.metric.mountpoint && metric.device === of.metric.device)?.value;
    const seen = new Set();
    const disks = (facts.facts.node_filesystem_size_bytes ?? [])
      .map((size) => ({ size, available: find("node_filesystem_avail_bytes", size), free: find("node_filesystem_free_bytes", size), readOnly: find("node_filesystem_readonly", size) === 1 }))
      .filter(({ size }) => size.value > 0)
      // A device mounted in several places is shown at the first, the shortest.
      .sort((a, b) => Number(a.size.metric.fstype === "tmpfs") - Number(b.size.metric.fstype === "tmpfs") || a.size.metric.mountpoint.length - b.size.metric.mountpoint.length)
      .filter(({ size: { metric } }) => metric.fstype === "tmpfs" || (!seen.has(metric.device) && seen.add(metric.device)));
    const rows = disks.slice(0, FILE_SYSTEM_COUNT_MAX).flatMap(({ size, available = 0, free = 0, readOnly }) => {
      // As df: what only the superuser may use counts as neither used nor left.
      const used = size.value - free;
      return [
        h("div", { class: "pair" },
          h("span", { title: `${size.metric.device}, ${size.metric.fstype}` }, size.metric.mountpoint, h("span", { class: "muted" }, ` ${size.metric.fstype}${readOnly ? ", read-only" : ""}`)),
          h("span", null, h("b", null, percent((100 * used) / (used + available || 1))), h("span", { class: "muted" }, ` ${bytes(available)} left`))),
        meter(used, used + available, `${size.metric.mountpoint} in use`),
      ];
    });
    const more = disks.length - FILE_SYSTEM_COUNT_MAX;
    patch(this.disks, rows.length ? [...rows, more > 0 ? h("div", { class: "muted" }, `and ${more} more`) : null] : [h("div", { class: "muted" }, "no data yet")]);
  }
}

/** @param {string} selector @returns {Promise<Facts>} */
async function loadFacts(selector) {
  const [found, cores] = await Promise.all([
    instant(`{${selector}__name__=~"${FACTS}"}`),
    instant(`count(node_cpu_seconds_total{${selector}mode="idle"})`),
  ]);
  /** @type {Record<string, Fact[]>} */
  const facts = {};
  for (const { metric, value } of found) (facts[metric.__name__] ??= []).push({ metric, value: Number(value?.[1]) });
  const cpuCount = cores[0]?.value ? Number(cores[0].value[1]) : null;
  return { facts, cpuCount };
}

/** @param {Facts} facts */
function describe(facts) {
  const uname = facts.facts.node_uname_info?.[0]?.metric;
  const system = facts.facts.node_os_info?.[0]?.metric;
  const ahead = clockAheadMs();
  const [booted, time] = [one(facts, "node_boot_time_seconds"), one(facts, "node_time_seconds")];
  return [
    uname?.nodename,
    system?.pretty_name,
    uname && `${uname.sysname} ${uname.release} ${uname.machine}`,
    known(booted) && known(time) && `up ${duration((time - booted) * 1000)}`,
    Math.abs(ahead) > CLOCK_NOTICE_MS && `its clock is ${duration(Math.abs(ahead))} ${ahead > 0 ? "ahead of" : "behind"} this browser's`,
  ].filter(Boolean).join(" · ");
}
