/** The stage with its canvas, the layer of strokes, and what lies in its corners. */
import { CompareNames } from "./compare_bar.js";
import { directionColor, flowAt, opacityOf } from "../flow.js";
import { zoom } from "../keys.js";
import { Icon } from "../icons.js";
import { Layer } from "../layer.js";
import { Stage } from "../stage.js";
import { TrackLayer } from "./tracks.js";
import { html, useLayoutEffect, useRef } from "../vendor/preact-htm.js";

/** @param {{editor: import("../editor.js").Editor}} props */
export function StageView({ editor }) {
  const [element, picture, flow] = [useRef(/** @type {any} */ (null)), useRef(/** @type {any} */ (null)), useRef(/** @type {any} */ (null))];
  useLayoutEffect(() => {
    const stage = new Stage(editor, element.current, picture.current, flow.current);
    editor.stage = stage;
    return () => stage.destroy();
  }, [editor]);
  const { tool, frame, node, compare } = editor.state;
  const cursor = editor.stage?.spaceHeld || compare ? "grab" : editor.tool.cursor;
  return html`
    <div class="stage" ref=${element} tabindex="0" data-tool=${tool} data-cursor=${cursor} role="application"
      aria-label=${`Picture ${editor.state.name}, frame ${frame}. ${editor.tool.title}: ${editor.tool.hint} The list of strokes does all of this with numbers.`}>
      <canvas ref=${picture} aria-hidden="true"></canvas><canvas class="flow" ref=${flow} aria-hidden="true"></canvas>
      ${compare ? html`<${CompareNames} editor=${editor} comparison=${compare} />` : html`<${Layer} editor=${editor} />`}
      ${!compare && editor.tracks.shown() && html`<svg class="layer tracks-layer" width=${editor.view.stage.width} height=${editor.view.stage.height} aria-hidden="true"><${TrackLayer} editor=${editor} /></svg>`}
      ${!compare && html`<div class="corner-note" data-no-draw>${frameLabel(editor, frame, node)}</div>`}
      <${FlowLegend} editor=${editor} />
      <div class="zoom" data-no-draw role="group" aria-label="Zoom">
        <button class="icon-button" title="Zoom out (−)" aria-label="Zoom out" onClick=${() => zoom(editor, 0.8)}><${Icon} name="minus" /></button>
        <button class="zoom-value" title="Actual pixels (1)" onClick=${() => zoom(editor, 0)}>${Math.round(editor.view.scale * 100)} %</button>
        <button class="icon-button" title="Zoom in (+)" aria-label="Zoom in" onClick=${() => zoom(editor, 1.25)}><${Icon} name="plus" /></button>
        <button class="icon-button" title="Whole picture (0)" aria-label="Show the whole picture" onClick=${() => zoom(editor, null)}><${Icon} name="fit" /></button>
      </div>
    </div>`;
}

/** @param {import("../editor.js").Editor} editor @param {number} frame @param {string | null} node */
function frameLabel(editor, frame, node) {
  const { passing } = editor.state;
  if (passing) return `Frame ${passing.index}, not kept`;
  if (frame === 0) return node ? "Frame 0, the given picture" : "The given picture";
  return `Frame ${frame} of ${(editor.state.nodes.get(node ?? "")?.num_frames ?? frame + 1) - 1}`;
}

/** @param {{editor: import("../editor.js").Editor}} props */
function FlowLegend({ editor }) {
  const shown = editor.shownFlow();
  if (!shown) return null;
  const { pointer } = editor.state;
  const full = editor.fullSpeed();
  const here = pointer && editor.view.isInPicture(pointer.picture) ? Math.hypot(...flowAt(shown.flow, editor.view.toFrame(pointer.stage), editor.picture)) : null;
  const speed = here ?? full;
  const swatches = Array.from({ length: 12 }, (_, i) => {
    const angle = (i / 12) * 2 * Math.PI;
    const next = ((i + 1) / 12) * 2 * Math.PI;
    const [r, g, b] = directionColor(Math.cos((angle + next) / 2), Math.sin((angle + next) / 2)).map(Math.round);
    return html`<path key=${i} fill=${`rgb(${r}, ${g}, ${b})`} d=${`M12 12L${12 + 11 * Math.cos(angle)} ${12 + 11 * Math.sin(angle)}A11 11 0 0 1 ${12 + 11 * Math.cos(next)} ${12 + 11 * Math.sin(next)}Z`} />`;
  });
  return html`
    <div class=${`legend${shown.stale ? " stale" : ""}`} data-no-draw role="img"
      aria-label=${`The color is the direction of the motion. The stronger it is, the faster, up to ${full.toFixed(0)} pixels per frame.`}>
      <svg viewBox="0 0 24 24" width="24" height="24">${swatches}</svg>
      <svg class="wide" viewBox="0 0 56 24" width="56" height="24">
        ${Array.from({ length: 8 }, (_, i) => html`<rect key=${i} x=${7 * i} y="8" width="7" height="8" fill="#fff" fill-opacity=${opacityOf((i + 0.5) / 8)} />`)}
        ${here !== null && html`<path class="here" d=${`M${56 * Math.min(1, here / full)} 4v16`} />`}
      </svg>
      <span>${here === null && html`<span class="wide">up to </span>`}${speed.toFixed(speed < 10 ? 1 : 0)} px<span class="wide"> per frame</span></span>
    </div>`;
}
