// @ts-check
// Building elements. Everything foreign (labels, errors) becomes text nodes, never markup.

/** @typedef {Node | string | null | undefined | false} Child */

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, unknown> | null} properties attributes; `on...` adds a listener, `--...` sets a CSS variable
 * @param {...(Child | Child[])} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    else if (name.startsWith("--")) element.style.setProperty(name, String(value));
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(.../** @type {(Node | string)[]} */ (children.flat().filter((child) => child !== null && child !== undefined && child !== false)));
  return element;
}

/** @template {HTMLElement} [T=HTMLElement] @param {string} id @returns {T} */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no #${id}`);
  return /** @type {T} */ (element);
}

/**
 * Makes `children` the content of `parent`, leaving alone those that are already so: what a reader has selected, focused
 * or opened stays as it is through a refresh.
 * @param {Element} parent
 * @param {Child[]} children
 */
export function patch(parent, children) {
  const nodes = children.filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (typeof child === "string" ? document.createTextNode(child) : /** @type {Node} */ (child)));
  nodes.forEach((node, index) => {
    const old = parent.childNodes[index];
    if (!old) parent.append(node);
    else if (node !== old && !old.isEqualNode(node)) parent.replaceChild(node, old);
  });
  while (parent.childNodes.length > nodes.length) parent.lastChild?.remove();
}

/** A bar that turns amber and red as it fills. @param {number} used @param {number} total @param {string} label */
export function meter(used, total, label) {
  const part = total > 0 ? Math.min(1, Math.max(0, used / total)) : 0;
  const grade = part > 0.95 ? " bad" : part > 0.85 ? " warn" : "";
  return h("div", {
    class: `meter${grade}`, role: "meter", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100,
    "aria-valuenow": Math.round(part * 100), "--part": `${(part * 100).toFixed(1)}%`,
  }, h("i", null));
}

/** Buttons of which one is pressed. @param {HTMLElement} group @param {string[]} names @param {string} current @param {(name: string) => void} chosen */
export function choice(group, names, current, chosen) {
  group.replaceChildren(...names.map((name) => h("button", {
    type: "button", "aria-pressed": String(name === current),
    onclick: (/** @type {Event} */ event) => {
      for (const button of group.children) button.setAttribute("aria-pressed", String(button === event.currentTarget));
      chosen(name);
    },
  }, name)));
}
