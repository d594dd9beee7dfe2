/** The versions as a tree: each with its frames on the time of the clip, what waits, and how those that compete do. */
import { compare } from "../compare.js";
import { Input } from "./fields.js";
import { Icon } from "../icons.js";
import { lastOf, queueOf, rankOf, titleOf, treeOf } from "../versions.js";
import { html } from "../vendor/preact-htm.js";

/** @typedef {import("../editor.js").Editor} Editor */

const DEEPEST = 5;
const ORDINALS = ["", "1st", "2nd", "3rd"];

/** @param {{editor: Editor}} props */
export function Versions({ editor }) {
  const { nodes } = editor.state;
  const list = treeOf(nodes);
  return html`
    <section class="versions">
      <h2>Versions <span class="count">${list.length || ""}</span>
        <button class="button small" disabled=${list.length < 2} title="Two versions at one frame (A)" aria-keyshortcuts="A" onClick=${() => compare(editor)}>Compare</button></h2>
      ${!list.length && html`<p class="nothing">Each render is kept here as a version. Nothing is overwritten.</p>`}
      <ul>${list.map(({ node, depth }) => html`<${Version} key=${node.id} editor=${editor} node=${node} depth=${Math.min(depth, DEEPEST)} />`)}</ul>
    </section>`;
}

/** @param {Editor} editor @param {import("../live.js").Node} node */
function detailOf(editor, node) {
  const { nodes, render } = editor.state;
  const last = lastOf(node);
  const place = queueOf(editor.state).findIndex((one) => one.id === node.id) + 1;
  const rank = rankOf(nodes, node);
  const detail = [
    rank ? `${ORDINALS[rank.rank] ?? `${rank.rank}th`} of ${rank.of}` : "",
    node.score?.mean != null ? `${node.score.mean.toFixed(1)} px off` : "",
    node.best_of ? `seed ${node.settings.seed}` : "",
    node.parent ? `from frame ${node.at}` : "",
    place ? (place === 1 ? "is next" : `waits, ${place} before it`) : "",
    render?.node === node.id && !render.enlarging ? (render.paused ? "paused" : "rendering") : "",
    place ? "" : last < node.num_frames - 1 && !node.endless ? `${last} of ${node.num_frames - 1} frames` : `${last} ${last === 1 ? "frame" : "frames"}`,
    node.state === "failed" ? "failed" : "",
  ];
  return detail.filter(Boolean).join(", ");
}

/** @param {{editor: Editor, node: import("../live.js").Node, depth: number}} props */
function Version({ editor, node, depth }) {
  const { state } = editor;
  const shown = state.node === node.id;
  const title = titleOf(state.nodes, node.id);
  const waits = queueOf(state).includes(node);
  const detail = detailOf(editor, node);
  /** @param {KeyboardEvent} event */
  const key = (event) => {
    if (event.key !== "Delete" || /** @type {HTMLElement} */ (event.target).closest("input")) return;
    event.preventDefault();
    event.stopPropagation();
    editor.store.set({ dialog: `remove ${node.id}` });
  };
  return html`
    <li class=${shown ? "open" : ""} data-depth=${depth} onKeyDown=${key}>
      <div class="row">
        <button class="row-main" aria-pressed=${shown} onClick=${() => editor.showNode(node.id)}>
          <span class="two-lines"><span class="what">${title}</span><small title=${detail}>${detail}</small><${Span} node=${node} going=${state.render?.node === node.id} /></span>
        </button>
        <button class=${`icon-button quiet${node.star ? " starred" : ""}`} aria-pressed=${node.star} aria-label=${`Star ${title}`} title="Star" onClick=${() => changeNode(editor, node.id, { star: !node.star })}><${Icon} name="star" /></button>
        ${waits
          ? html`<button class="icon-button quiet" aria-label=${`Take ${title} out of the queue`} title="Take it out of the queue" onClick=${() => editor.live.cancel(node.id)}><${Icon} name="close" /></button>`
          : html`<button class="icon-button quiet" aria-label=${`Remove ${title}`} title="Remove this version and those made from it (Delete)" onClick=${() => editor.store.set({ dialog: `remove ${node.id}` })}><${Icon} name="bin" /></button>`}
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
