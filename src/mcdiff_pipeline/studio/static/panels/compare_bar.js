/** What is compared, in the line above the picture, and the names of both on it. */
import { MODES, setComparison } from "../compare.js";
import { Icon } from "../icons.js";
import { lastOf, titleOf, treeOf } from "../versions.js";
import { html } from "../vendor/preact-htm.js";

/** @typedef {import("../editor.js").Editor} Editor */

/** @param {{editor: Editor, comparison: import("../compare.js").Comparison}} props */
export function CompareBar({ editor, comparison }) {
  const set = (/** @type {Partial<import("../compare.js").Comparison>} */ changes) => setComparison(editor, { ...comparison, ...changes });
  /** @param {"a" | "b"} side */
  const choice = (side) => html`
    <select aria-label=${side === "a" ? "First version" : "Second version"} value=${comparison[side]} onChange=${(/** @type {any} */ event) => set({ [side]: event.target.value })}>
      ${treeOf(editor.state.nodes).filter(({ node }) => lastOf(node) > 0).map(({ node }) => html`<option key=${node.id} value=${node.id}>${titleOf(editor.state.nodes, node.id)}</option>`)}
    </select>`;
  return html`
    <div class="options comparing" role="group" aria-label="Comparison">
      <b>Compare</b>
      <span class="number">${choice("a")} <span aria-hidden="true">|</span> ${choice("b")}</span>
      <div class="choice" role="group" aria-label="How">
        ${MODES.map(([mode, title]) => html`<button key=${mode} aria-pressed=${comparison.mode === mode} onClick=${() => set({ mode })}>${title}</button>`)}
      </div>
      <label class="slider" data-unused=${comparison.mode !== "wipe"}><span class="wide">Wipe</span>
        <input type="range" min="0" max="1" step="0.01" aria-label="Place of the wipe" disabled=${comparison.mode !== "wipe"} value=${comparison.wipe} onInput=${(/** @type {any} */ event) => set({ wipe: Number(event.target.value) })} /></label>
      <button class="button small" onClick=${() => setComparison(editor, null)} aria-label="Close" title="End the comparison (Esc)"><${Icon} name="close" /><span class="wide">Close</span></button>
    </div>`;
}

/** @param {{editor: Editor, comparison: import("../compare.js").Comparison}} props */
export function CompareNames({ editor, comparison }) {
  const { nodes, frame } = editor.state;
  /** @param {string} id */
  const name = (id) => {
    const node = nodes.get(id);
    return `${titleOf(nodes, id)}${node && frame > lastOf(node) ? `, ends at ${lastOf(node)}` : ""}`;
  };
  if (comparison.mode === "difference") return html`<div class="compare-name first">${`${name(comparison.a)} and ${name(comparison.b)}: differences, 4 times as bright`}</div>`;
  return html`
    <div class="compare-name first">${name(comparison.a)}</div>
    <div class=${`compare-name second${comparison.mode === "side" ? " parted" : ""}`}>${name(comparison.b)}</div>`;
}
