/** The versions as a tree: each with its frames on the time of the clip, what waits, and how those that compete do. */
import { compare } from "../compare.js";
import { Input } from "./fields.js";
import { Icon } from "../icons.js";
import { lastOf, queueOf, rankOf, titleOf, treeOf, unfoldedOf } from "../versions.js";
import { html, useEffect, useRef, useState } from "../vendor/preact-htm.js";

/**
 * @typedef {import("../editor.js").Editor} Editor
 * @typedef {import("../versions.js").Row} Row
 */

const DEEPEST = 5;
const ORDINALS = ["", "1st", "2nd", "3rd"];

/** @param {{editor: Editor}} props */
export function Versions({ editor }) {
  const { nodes } = editor.state;
  return html`
    <section class="versions">
      <h2>Versions <span class="count">${nodes.size || ""}</span>
        <button class="button small" disabled=${nodes.size < 2} title="Two versions at one frame (A)" aria-keyshortcuts="A" onClick=${() => compare(editor)}>Compare</button></h2>
      ${nodes.size ? html`<${Tree} editor=${editor} />` : html`<p class="nothing">Each render is kept here as a version. Nothing is overwritten.</p>`}
    </section>`;
}

/** One row is in the order of Tab, with its buttons; arrow keys go to the others. @param {{editor: Editor}} props */
function Tree({ editor }) {
  const { nodes, node: shown } = editor.state;
  const [folded, fold] = useState(/** @type {Set<string>} */ (new Set()));
  const [focused, focus] = useState(/** @type {string | null} */ (null));
  const list = useRef(/** @type {HTMLElement | null} */ (null));
  const all = treeOf(nodes);
  const rows = unfoldedOf(all, folded);
  const stop = rows.find(({ node }) => node.id === focused) ?? rows.find(({ node }) => node.id === shown) ?? rows[0];
  useEffect(() => {
    const open = new Set(folded);
    for (let row = all.find(({ node }) => node.id === shown); row; row = all.find(({ node }) => node.id === row?.above)) open.delete(row.above ?? "");
    if (open.size < folded.size) fold(open);
  }, [shown]);
  /** @param {string} id */
  const toggle = (id) => fold(new Set(folded.has(id) ? [...folded].filter((one) => one !== id) : [...folded, id]));
  /** @param {KeyboardEvent} event @param {Row} row */
  const key = (event, row) => {
    const { target, currentTarget } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    const { id } = row.node;
    if (event.key === "Delete" && !(target instanceof HTMLInputElement)) editor.store.set({ dialog: `remove ${id}` });
    else if (target !== currentTarget) return; // it is for a button of the row
    else if (event.key === "Enter" || event.key === " ") editor.showNode(id);
    else if ((event.key === "ArrowRight" && folded.has(id)) || (event.key === "ArrowLeft" && row.foldable && !folded.has(id))) toggle(id);
    else {
      const next = rowAt(event.key, rows, row);
      if (!next) return;
      /** @type {HTMLElement | null | undefined} */ (list.current?.querySelector(`[data-node="${next.node.id}"]`))?.focus();
    }
    event.preventDefault();
    event.stopPropagation();
  };
  const deep = all.some((row) => row.foldable);
  return html`
    <ul class=${deep ? "tree deep" : "tree"} ref=${list} role="tree" aria-label="Versions">
      ${rows.map((row) => html`<${Version} key=${row.node.id} editor=${editor} row=${row} stop=${row === stop} folded=${folded.has(row.node.id)}
        onToggle=${toggle} onFocus=${focus} onKey=${key} />`)}
    </ul>`;
}

/** Where a key of a tree leads to, or nothing for other keys. @param {string} key @param {Row[]} rows that are to be seen @param {Row} row */
function rowAt(key, rows, row) {
  const index = rows.indexOf(row);
  switch (key) {
    case "ArrowDown":
      return rows[index + 1] ?? row;
    case "ArrowUp":
      return rows[index - 1] ?? row;
    case "ArrowRight":
      return row.foldable ? rows[index + 1] : row;
    case "ArrowLeft":
      return rows.find(({ node }) => node.id === row.above) ?? row;
    case "Home":
      return rows[0];
    case "End":
      return rows[rows.length - 1];
  }
}

/** @param {Editor} editor @param {import("../live.js").Node} node */
function detailOf(editor, node) {
  const { nodes, render } = editor.state;
  const last = lastOf(node);
  const place = queueOf(editor.state).findIndex((one) => one.id === node.id) + 1;
  const rank = rankOf(nodes, node);
  const detail = [
    node.state === "failed" ? "failed" : "",
    rank ? `${ORDINALS[rank.rank] ?? `${rank.rank}th`} of ${rank.of}` : "",
    node.score?.mean != null ? `${node.score.mean.toFixed(1)} px off` : "",
    node.best_of ? `seed ${node.settings.seed}` : "",
    node.parent ? `from frame ${node.at}` : "",
    place ? (place === 1 ? "is next" : `waits, ${place} before it`) : "",
    render?.node === node.id && !render.enlarging ? (render.paused ? "paused" : "rendering") : "",
    place ? "" : last < node.num_frames - 1 && !node.endless ? `${last} of ${node.num_frames - 1} frames` : `${last} ${last === 1 ? "frame" : "frames"}`,
  ];
  return detail.filter(Boolean).join(", ");
}

/**
 * @param {{editor: Editor, row: Row, stop: boolean, folded: boolean, onToggle: (id: string) => void, onFocus: (id: string) => void,
 *     onKey: (event: KeyboardEvent, row: Row) => void}} props `stop` is whether it is the one in the order of Tab
 */
function Version({ editor, row, stop, folded, onToggle, onFocus, onKey }) {
  const { state } = editor;
  const { node, depth, foldable } = row;
  const shown = state.node === node.id;
  const title = titleOf(state.nodes, node.id);
  const waits = queueOf(state).includes(node);
  const detail = detailOf(editor, node);
  const tab = stop ? 0 : -1;
  /** @param {PointerEvent} event */
  const click = (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (target.closest("button, .numbers")) return;
    if (target.closest(".fold:not(.leaf)")) onToggle(node.id);
    else editor.showNode(node.id);
    if (event.pointerType) /** @type {HTMLElement} */ (event.currentTarget).blur(); // then the arrow keys go on from frame to frame
  };
  return html`
    <li class=${shown ? "open" : ""} data-depth=${Math.min(depth, DEEPEST)} data-node=${node.id} role="treeitem" tabindex=${tab} aria-label=${`${title}, ${detail}`}
      aria-level=${depth + 1} aria-posinset=${row.place} aria-setsize=${row.of} aria-selected=${shown} aria-expanded=${foldable ? !folded : undefined}
      onClick=${click} onfocusin=${() => onFocus(node.id)} onKeyDown=${(/** @type {KeyboardEvent} */ event) => onKey(event, row)}>
      <div class="row">
        <span class=${foldable ? `fold${folded ? " folded" : ""}` : "fold leaf"} aria-hidden="true">${foldable && html`<${Icon} name="down" />`}</span>
        <div class="row-main">
          <span class="two-lines"><span class="what" title=${title}>${title}</span><small title=${detail}>${detail}</small><${Span} node=${node} going=${state.render?.node === node.id} /></span>
        </div>
        <button class=${`icon-button quiet${node.star ? " starred" : ""}`} tabindex=${tab} aria-pressed=${node.star} aria-label=${`Star ${title}`} title="Star" onClick=${() => changeNode(editor, node.id, { star: !node.star })}><${Icon} name="star" /></button>
        ${waits
          ? html`<button class="icon-button quiet" tabindex=${tab} aria-label=${`Take ${title} out of the queue`} title="Take it out of the queue" onClick=${() => editor.live.cancel(node.id)}><${Icon} name="close" /></button>`
          : html`<button class="icon-button quiet" tabindex=${tab} aria-label=${`Remove ${title}`} title="Remove this version and those made from it (Delete)" onClick=${() => editor.store.set({ dialog: `remove ${node.id}` })}><${Icon} name="bin" /></button>`}
      </div>
      ${shown && html`<${VersionNumbers} editor=${editor} node=${node} title=${title} />`}
    </li>`;
}

/** Which frames of the clip a version made. @param {{node: import("../live.js").Node, going: boolean}} props */
function Span({ node, going }) {
  const total = node.endless ? lastOf(node) + 8 : node.num_frames - 1;
  /** @param {HTMLElement | null} element */
  const place = (element) => {
    element?.style.setProperty("left", `${(100 * node.at) / total}%`);
    element?.style.setProperty("width", `${(100 * node.frames) / total}%`);
  };
  return html`<span class=${`span${going ? " going" : ""}`} aria-hidden="true"><i ref=${place}></i></span>`;
}

/** @param {{editor: Editor, node: import("../live.js").Node, title: string}} props */
function VersionNumbers({ editor, node, title }) {
  const whole = lastOf(node) >= node.num_frames - 1 && !node.endless;
  const { score } = node;
  return html`
    <div class="numbers">
      <label class="number wide-field">Name <${Input} type="text" maxlength="100" value=${title} onChange=${(/** @type {any} */ event) => renameNode(editor, node.id, title, event.target)} /></label>
      <div class="pair">
        <button class="button small" disabled=${editor.state.nodes.size < 2 || lastOf(node) < 1} onClick=${() => compare(editor)}>Compare</button>
        <button class="button small" disabled=${!whole} title="Render it with other seeds, and see which one follows the strokes best" onClick=${() => editor.store.set({ dialog: `best ${node.id}` })}>Best of …</button>
      </div>
      ${score && html`
        <table class="scores"><caption>Distance from the strokes, in pixels</caption><tbody>
          ${score.strokes.map((/** @type {number | null} */ distance, /** @type {number} */ i) => html`<tr key=${i}><th scope="row">Stroke ${i + 1}</th><td>${distance === null ? "not measurable" : distance.toFixed(1)}</td></tr>`)}
        </tbody></table>`}
    </div>`;
}

/** @param {Editor} editor @param {string} id @param {string} title that is shown @param {HTMLInputElement} input */
function renameNode(editor, id, title, input) {
  const name = input.value.trim();
  input.value = name || title;
  if (name !== title) changeNode(editor, id, { name: name || null });
}

/** @param {Editor} editor @param {string} id @param {{name?: string | null, star?: boolean}} changes */
async function changeNode(editor, id, changes) {
  try {
    const node = await editor.transport.changeNode(id, changes);
    editor.store.set({ nodes: new Map(editor.state.nodes).set(id, node) });
  } catch (error) {
    editor.say(/** @type {Error} */ (error).message);
  }
}
