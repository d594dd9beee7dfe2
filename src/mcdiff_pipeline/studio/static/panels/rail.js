/** The tools and their options. */
import { CompareBar } from "./compare_bar.js";
import { Icon } from "../icons.js";
import { html, useEffect, useRef, useState } from "../vendor/preact-htm.js";

const STEPS = /** @type {Record<string, number>} */ ({ ArrowUp: -1, ArrowLeft: -1, ArrowDown: 1, ArrowRight: 1, Home: -Infinity, End: Infinity });

/** One tool is in the order of Tab; arrow keys go to the others. @param {{editor: import("../editor.js").Editor}} props */
export function Rail({ editor }) {
  const { tool: chosen } = editor.state;
  const [stop, setStop] = useState(chosen);
  const rail = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    setStop(chosen);
    const list = /** @type {HTMLElement} */ (rail.current);
    const button = /** @type {HTMLElement} */ (list.querySelector("[aria-pressed=true]"));
    // not `scrollIntoView`, which would scroll a notebook, too
    list.scrollLeft = button.offsetLeft - list.offsetLeft - (list.clientWidth - button.offsetWidth) / 2;
    list.scrollTop = button.offsetTop - list.offsetTop - (list.clientHeight - button.offsetHeight) / 2;
  }, [chosen]);
  /** @param {KeyboardEvent} event */
  const key = (event) => {
    const all = /** @type {HTMLElement[]} */ ([.../** @type {HTMLElement} */ (rail.current).querySelectorAll("button")]);
    const by = STEPS[event.key];
    if (!by || event.ctrlKey || event.metaKey || event.altKey) return;
    const index = all.indexOf(/** @type {HTMLElement} */ (document.activeElement)) + by;
    all[Math.min(all.length - 1, Math.max(0, index))].focus();
    event.preventDefault();
  };
  /** @param {PointerEvent} event @param {string} id */
  const choose = (event, id) => {
    editor.setTool(id);
    if (event.pointerType) /** @type {HTMLElement} */ (event.currentTarget).blur(); // then the arrow keys go from frame to frame
  };
  return html`
    <div class="rail" ref=${rail} role="toolbar" aria-label="Tools" onKeyDown=${key}>
      ${Object.values(editor.tools).map((tool) => html`
        <button key=${tool.id} class="tool" tabindex=${stop === tool.id ? 0 : -1} aria-pressed=${chosen === tool.id} title=${`${tool.title} (${tool.key})`} aria-label=${tool.title}
          aria-keyshortcuts=${tool.key} onFocus=${() => setStop(tool.id)} onClick=${(/** @type {PointerEvent} */ event) => choose(event, tool.id)}>
          <${Icon} name=${tool.id} /><span class="tool-name">${tool.title}</span>
        </button>`)}
    </div>`;
}

/** One line above the picture, always there, so that nothing jumps. @param {{editor: import("../editor.js").Editor}} props */
export function ToolOptions({ editor }) {
  const { compare } = editor.state;
  if (compare) return html`<${CompareBar} editor=${editor} comparison=${compare} />`;
  return html`
    <div class="options" role="group" aria-label=${`${editor.tool.title} options`}>
      <b>${editor.tool.title}</b>
      <span class="options-controls">${editor.tool.options?.()}</span>
      <span class="hint" title=${editor.tool.hint}>${editor.tool.hint}</span>
    </div>`;
}
