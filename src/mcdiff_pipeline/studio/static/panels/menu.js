/** A button with a list of actions: arrow keys go through it, Escape closes it. */
import { html, useEffect, useRef, useState } from "../vendor/preact-htm.js";

/**
 * @param {{label: any, name: string, items: {label: string, run: () => void}[], class?: string, align?: string, disabled?: boolean, empty?: string, note?: string}} props
 */
export function Menu({ label, name, items, class: kind = "", align = "start", disabled = false, empty = "", note = "" }) {
  const [open, setOpen] = useState(false);
  const root = useRef(/** @type {HTMLElement | null} */ (null));
  const list = () => /** @type {HTMLElement[]} */ ([...(root.current?.querySelectorAll("[role=menuitem]") ?? [])]);
  useEffect(() => {
    if (!open) return;
    list()[0]?.focus();
    const close = (/** @type {Event} */ event) => root.current?.contains(/** @type {globalThis.Node} */ (event.target)) || setOpen(false);
    document.addEventListener("pointerdown", close);
    return () => document.removeEventListener("pointerdown", close);
  }, [open]);
  /** @param {KeyboardEvent} event */
  const key = (event) => {
    if (!open) return;
    const all = list();
    const index = all.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    const by = /** @type {Record<string, number>} */ ({ ArrowDown: 1, ArrowUp: -1 })[event.key];
    if (by && all.length) all[(index + by + all.length) % all.length].focus();
    else if (event.key === "Home" || event.key === "End") all.at(event.key === "Home" ? 0 : -1)?.focus();
    else if (event.key === "Escape" || event.key === "Tab") {
      setOpen(false);
      if (event.key === "Escape") /** @type {HTMLElement | null} */ (root.current?.querySelector("button"))?.focus();
    } else return;
    event.stopPropagation();
    if (event.key !== "Tab") event.preventDefault();
  };
  return html`
    <div class=${`menu ${kind} at-${align}`} ref=${root} onKeyDown=${key}>
      <button class="button" aria-haspopup="menu" aria-expanded=${open} aria-label=${name} title=${name} disabled=${disabled} onClick=${() => setOpen(!open)}>${label}</button>
      ${open && html`
        <div class="menu-box">
          ${items.length > 0 && html`<div role="menu" aria-label=${name}>
            ${items.map((item) => html`<button key=${item.label} role="menuitem" tabindex="-1" onClick=${() => (setOpen(false), item.run())}>${item.label}</button>`)}
          </div>`}
          ${!items.length && html`<p>${empty}</p>`}
          ${note && html`<p>${note}</p>`}
        </div>`}
    </div>`;
}
