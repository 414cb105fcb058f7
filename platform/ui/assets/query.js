// @ts-check
// The query box: an expression, its answer as chart or table, and all of it in the address as Prometheus writes it
// (`g0.expr`, `g0.tab` 0 or 1, `g0.range_input`, `g0.step_input`, `g0.end_input`), so that links from alerts open here.

import { ApiError, ask, nowMs } from "./api.js";
import { Chart, key } from "./chart.js";
import { byId, h } from "./dom.js";
import { moment, parseDuration, sample, seriesName, short } from "./format.js";

/** @typedef {import("./api.js").Series} Series */

const POINT_COUNT = 300;
const LINE_COUNT_MAX = 40;
const ROW_COUNT_MAX = 500;
const COMPLETION_COUNT_MAX = 12;
/** The server refuses ranges with more steps per series, as Prometheus does. */
const STEP_COUNT_MAX = 11000;

export class Query {
  constructor() {
    this.form = byId("query-form");
    this.expression = /** @type {HTMLTextAreaElement} */ (byId("expr"));
    this.range = /** @type {HTMLInputElement} */ (byId("range"));
    this.step = /** @type {HTMLInputElement} */ (byId("step"));
    this.end = /** @type {HTMLInputElement} */ (byId("end"));
    this.isTable = false;
    /** The expression that the shown answer belongs to; null when none is shown. @type {string | null} */
    this.asked = null;
    /** @type {AbortController | null} */
    this.running = null;
    /** @type {{ chart: Chart, legend: HTMLElement } | null} */
    this.graph = null;
    /** Names of the lines that were switched off in the legend. */
    this.hidden = new Set();

    this.form.addEventListener("submit", (event) => { event.preventDefault(); this.submit(); });
    this.expression.addEventListener("input", () => this.#fit());
    for (const input of [this.range, this.step, this.end]) input.addEventListener("change", () => { if (this.asked !== null) this.submit(); });
    byId("now").addEventListener("click", () => { this.end.value = ""; this.submit(); });
    byId("tab-graph").addEventListener("click", () => this.#choose(false));
    byId("tab-table").addEventListener("click", () => this.#choose(true));
    new Completion(this.expression, byId("complete"), () => this.submit());
  }

  /** Takes everything from the address; runs what it asks for. */
  open() {
    const parameters = new URLSearchParams(location.search);
    this.expression.value = parameters.get("g0.expr") ?? "";
    this.range.value = parameters.get("g0.range_input") ?? "1h";
    this.step.value = parameters.get("g0.step_input") ?? "";
    const end = Date.parse((parameters.get("g0.end_input") ?? parameters.get("g0.moment_input") ?? "").replace(" ", "T").replace(/(\d)$/, "$1Z"));
    this.end.value = Number.isNaN(end) ? "" : moment(end).replace(" ", "T");
    this.#setTable(["1", "table"].includes(parameters.get("g0.tab") ?? "0"));
    this.#fit();
    this.hidden.clear();
    if (this.expression.value.trim()) this.run(); else this.#clear();
  }

  /** Runs what the form says and puts it into the address. */
  submit() {
    this.hidden.clear();
    const parameters = new URLSearchParams({ "g0.expr": this.expression.value, "g0.tab": this.isTable ? "1" : "0", "g0.range_input": this.range.value });
    if (this.step.value) parameters.set("g0.step_input", this.step.value);
    if (this.end.value) parameters.set("g0.end_input", new Date(this.end.value).toISOString().slice(0, 19).replace("T", " "));
    const address = `graph?${parameters}`;
    if (new URL(address, document.baseURI).href !== location.href) history.pushState(null, "", address);
    document.dispatchEvent(new CustomEvent("holdfast-view"));
    if (this.expression.value.trim()) this.run(); else this.#clear();
  }

  /** At each refresh of the page: an answer up to now is asked for again; one that ends in the past stays. */
  async refresh() {
    if (this.asked !== null && this.running === null && !this.end.value && this.asked === this.expression.value) await this.run();
  }

  async run() {
    this.running?.abort();
    const running = this.running = new AbortController();
    const query = this.expression.value;
    const about = byId("query-about");
    const started = performance.now();
    try {
      const shown = this.isTable ? await this.#table(query, running.signal) : await this.#chart(query, running.signal);
      about.textContent = `${shown} in ${Math.round(performance.now() - started)} ms`;
      this.asked = query;
      this.#error("");
    } catch (error) {
      if (running.signal.aborted) return;
      about.textContent = "";
      this.asked = null;
      // Without an answer at all the page's banner tells; the old chart may stay.
      this.#error(error instanceof ApiError || error instanceof RangeError ? error.message : String(error));
      if (!(error instanceof ApiError && error.status === 0)) this.#drop();
    } finally {
      if (this.running === running) this.running = null;
    }
  }

  /** @param {string} query @param {AbortSignal} signal @returns {Promise<string>} */
  async #table(query, signal) {
    /** @type {Record<string, string | number>} */
    const parameters = { query };
    const end = this.#endSeconds();
    if (this.end.value) parameters.time = end;
    const { data, warnings } = await ask("query", parameters, signal);
    this.#drop();
    /** @type {[string, string][]} */
    let rows;
    if (data.resultType === "scalar" || data.resultType === "string") rows = [[data.resultType, sample(data.result[1])]];
    else {
      rows = data.result.map((/** @type {any} */ series) => [
        seriesName(series.metric),
        series.value ? sample(series.value[1])
          : series.histogram ? `histogram: count ${series.histogram[1].count}, sum ${series.histogram[1].sum}`
          : (series.values ?? []).map((/** @type {[number, string]} */ [t, value]) => `${value} @${t}`).join("\n"),
      ]);
    }
    const left = rows.length - ROW_COUNT_MAX;
    byId("answer").append(
      ...warnings.map((text) => h("div", { class: "banner warn" }, text)),
      rows.length === 0 ? h("p", { class: "empty" }, "The answer is empty: no series matches at this time.")
        : h("div", { class: "scroll" }, h("table", null,
          h("thead", null, h("tr", null, h("th", { scope: "col" }, "Series"), h("th", { scope: "col", class: "number" }, "Value"))),
          h("tbody", null, rows.slice(0, ROW_COUNT_MAX).map(([name, value]) => h("tr", null, h("td", { class: "wide code" }, name), h("td", { class: "number code" }, value)))))),
      left > 0 ? h("p", { class: "muted" }, `and ${left} more; aggregate, or select fewer`) : "",
    );
    return `${rows.length} ${rows.length === 1 ? "row" : "rows"}`;
  }

  /** @param {string} query @param {AbortSignal} signal @returns {Promise<string>} */
  async #chart(query, signal) {
    const span = parseDuration(this.range.value);
    if (span === null) throw new RangeError(`"${this.range.value}" is no range; write it as 30m, 1h or 1d12h`);
    const step = this.step.value ? parseDuration(this.step.value) : Math.max(1, Math.ceil(span / POINT_COUNT));
    if (step === null) throw new RangeError(`"${this.step.value}" is no step; write it as 15s or 1m, or leave it empty`);
    if (span / step > STEP_COUNT_MAX) throw new RangeError(`a step of ${this.step.value} gives more than ${STEP_COUNT_MAX} points in ${this.range.value}; take a longer step or a shorter range`);
    const end = this.end.value ? this.#endSeconds() : Math.floor(this.#endSeconds() / step) * step;
    const start = end - span;
    const { data, warnings } = await ask("query_range", { query, start, end, step }, signal);
    const all = /** @type {Series[]} */ (data.result);
    const common = commonLabels(all);
    const lines = all.slice(0, LINE_COUNT_MAX).map((series, index) => {
      const own = Object.entries(series.metric).filter(([label]) => !(label in common));
      const name = seriesName(Object.fromEntries(own));
      return { name: name === "{}" ? "value" : name, color: index, hidden: this.hidden.has(name), points: /** @type {[number, number][]} */ ((series.values ?? []).map(([t, value]) => [t, Number(value)])) };
    });
    if (!this.graph) {
      this.#drop();
      const chart = new Chart(byId("answer"), { height: 300, format: short, label: "Answer" });
      this.graph = { chart, legend: h("div", { class: "legend" }) };
      byId("answer").append(this.graph.legend);
    }
    const { chart, legend } = this.graph;
    chart.options.filled = lines.length === 1;
    chart.set({ lines, start, end, step });
    const left = all.length - lines.length;
    legend.replaceChildren(
      ...warnings.map((text) => h("div", { class: "banner warn" }, text)),
      Object.keys(common).length ? h("div", { class: "common muted" }, `All: ${seriesName(common)}`) : "",
      ...lines.map((line) => h("button", {
        type: "button", "aria-pressed": String(!line.hidden), title: "Show or hide this line",
        onclick: (/** @type {Event} */ event) => {
          line.hidden = !line.hidden;
          if (line.hidden) this.hidden.add(line.name); else this.hidden.delete(line.name);
          /** @type {HTMLElement} */ (event.currentTarget).setAttribute("aria-pressed", String(!line.hidden));
          chart.draw();
        },
      }, key(line), line.name)),
      left > 0 ? h("p", { class: "muted" }, `and ${left} more that are not drawn; aggregate, or select fewer`) : "",
    );
    return `${all.length} series, a point every ${step} s,`;
  }

  #endSeconds() {
    const end = this.end.value ? new Date(this.end.value).getTime() : nowMs();
    return end / 1000;
  }

  /** @param {boolean} isTable */
  #choose(isTable) {
    if (isTable === this.isTable) return;
    this.#setTable(isTable);
    if (this.expression.value.trim()) this.submit();
  }

  /** @param {boolean} isTable */
  #setTable(isTable) {
    this.isTable = isTable;
    byId("tab-table").setAttribute("aria-pressed", String(isTable));
    byId("tab-graph").setAttribute("aria-pressed", String(!isTable));
    for (const input of [this.range, this.step]) input.disabled = isTable;
  }

  #clear() {
    this.running?.abort();
    this.running = null;
    this.asked = null;
    this.#drop();
    this.#error("");
    byId("query-about").textContent = "";
  }

  #drop() {
    this.graph = null;
    byId("answer").replaceChildren();
  }

  /** @param {string} text empty: none */
  #error(text) {
    const box = byId("query-error");
    box.hidden = !text;
    box.textContent = text;
  }

  /** The box is as high as its text. */
  #fit() {
    this.expression.style.height = "auto";
    this.expression.style.height = `${this.expression.scrollHeight + 2}px`;
  }
}

/** Labels that all of several series share: said once, so that the legend shows what tells them apart. @param {Series[]} all @returns {Record<string, string>} */
function commonLabels(all) {
  if (all.length < 2) return {};
  const [first, ...rest] = all;
  return Object.fromEntries(Object.entries(first.metric).filter(([label, value]) => rest.every(({ metric }) => metric[label] === value)));
}

/** Names of metrics, offered while one is being written. */
class Completion {
  /** @param {HTMLTextAreaElement} input @param {HTMLElement} list @param {() => void} submit */
  constructor(input, list, submit) {
    this.input = input;
    this.list = list;
    /** @type {Promise<string[]> | null} */
    this.names = null;
    /** @type {string[]} */
    this.offered = [];
    this.selected = -1;
    input.addEventListener("input", () => this.#offer());
    input.addEventListener("blur", () => this.#close());
    input.addEventListener("focus", () => { this.names = null; });
    input.addEventListener("keydown", (event) => this.#press(event, submit));
  }

  /** The word before the cursor, when it can be the beginning of a metric's name. */
  #word() {
    const before = this.input.value.slice(0, this.input.selectionStart);
    const match = /[a-zA-Z_:][a-zA-Z0-9_:]*$/.exec(before);
    // Within quotes or braces stand labels and values, not metrics.
    const isInside = (before.split("\"").length % 2 === 0) || before.lastIndexOf("{") > before.lastIndexOf("}");
    return match && !isInside && match[0].length > 1 ? match[0] : null;
  }

  async #offer() {
    if (this.#word() === null) { this.#close(); return; }
    this.names ??= ask("label/__name__/values").then(({ data }) => data, () => []);
    const names = await this.names;
    const word = this.#word();
    if (word === null || document.activeElement !== this.input) { this.#close(); return; }
    const lower = word.toLowerCase();
    const matches = names.filter((name) => name.toLowerCase().includes(lower) && name !== word);
    matches.sort((a, b) => Number(!a.startsWith(word)) - Number(!b.startsWith(word)));
    this.offered = matches.slice(0, COMPLETION_COUNT_MAX);
    this.selected = -1;
    this.#show();
  }

  #show() {
    this.list.hidden = this.offered.length === 0;
    this.input.setAttribute("aria-expanded", String(!this.list.hidden));
    this.list.replaceChildren(...this.offered.map((name, index) => h("li", {
      id: `complete-${index}`, role: "option", class: "code", "aria-selected": String(index === this.selected),
      onmousedown: (/** @type {Event} */ event) => { event.preventDefault(); this.#take(name); },
    }, name)));
    if (this.selected < 0) this.input.removeAttribute("aria-activedescendant");
    else this.input.setAttribute("aria-activedescendant", `complete-${this.selected}`);
  }

  #close() {
    this.offered = [];
    this.selected = -1;
    this.#show();
  }

  /** @param {string} name */
  #take(name) {
    const end = this.input.selectionStart;
    const start = end - (this.#word()?.length ?? 0);
    this.input.setRangeText(name, start, end, "end");
    this.#close();
  }

  /** @param {KeyboardEvent} event @param {() => void} submit */
  #press(event, submit) {
    const { length } = this.offered;
    if (length && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      event.preventDefault();
      this.selected = event.key === "ArrowDown" ? (this.selected + 1) % length : (this.selected <= 0 ? length : this.selected) - 1;
      this.#show();
    } else if (length && event.key === "Escape") this.#close();
    else if (length && (event.key === "Enter" || event.key === "Tab") && this.selected >= 0) {
      event.preventDefault();
      this.#take(this.offered[this.selected]);
    } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      this.#close();
      submit();
    }
  }
}
