/**
 * Strokes, regions and their handles over the picture, as SVG in CSS pixels of the stage, so that lines and handles keep
 * their size at any zoom.
 *
 * @typedef {import("./editor.js").Editor} Editor
 * @typedef {import("./strokes.js").Stroke} Stroke
 * @typedef {import("./geometry.js").Point} Point
 */
import { arrowHead, distance } from "./geometry.js";
import { describe, fromSheet, handlesAt, isOver, positionAt, span } from "./strokes.js";
import { branchTo } from "./versions.js";
import { html } from "./vendor/preact-htm.js";

export const STROKE_COLORS = ["#ff6b5e", "#4cc2ff", "#ffc53d", "#6fdc6f", "#c58bff", "#ff8fd0", "#3fe0c5", "#ff9f40"];
const REGION_COLORS = ["#4cc2ff", "#ffb84d", "#b18cff", "#5fd68b", "#ff86b3", "#d7d74a"];

/** @param {number} index */
export const strokeColor = (index) => STROKE_COLORS[index % STROKE_COLORS.length];
/** @param {number} index */
export const regionColor = (index) => REGION_COLORS[index % REGION_COLORS.length];

/** @param {Point[]} points */
const text = (points) => points.map(([x, y]) => `${x.toFixed(2)},${y.toFixed(2)}`).join(" ");

/** @param {{editor: Editor}} props */
export function Layer({ editor }) {
  const { document, state } = editor;
  const { num_frames: numFrames } = document.settings;
  const strokes = document.strokes.map((stroke, index) => ({ stroke, index }));
  const selectedLast = strokes.sort((a, b) => Number(a.stroke.id === state.selected) - Number(b.stroke.id === state.selected));
  const refused = document.strokes.find((stroke) => stroke.id === state.refusal?.id);
  const { width, height } = editor.view.stage;
  return html`
    <svg class="layer" width=${width} height=${height} role="group" aria-label="Strokes and regions">
      ${state.frame === 0 && document.regions.map((region, index) => html`<${RegionShape} key=${region.id} editor=${editor} region=${region} index=${index} />`)}
      ${!state.playing && earlierStrokes(editor).map((stroke) => html`<${Ghost} key=${stroke.id} editor=${editor} stroke=${stroke} />`)}
      ${!state.playing && selectedLast.map(({ stroke, index }) =>
        isOver(stroke, state.frame, numFrames)
          ? html`<${Ghost} key=${stroke.id} editor=${editor} stroke=${stroke} />`
          : html`<${StrokeShape} key=${stroke.id} editor=${editor} stroke=${stroke} index=${index} />`)}
      ${refused && !state.playing && html`<${Refusal} editor=${editor} at=${editor.view.toStage(refused.points[0])} why=${state.refusal?.why ?? ""} />`}
      ${state.pending && html`<${Line} editor=${editor} stroke=${state.pending} color=${strokeColor(document.strokes.length)} />`}
      ${!state.playing && editor.tool.overlay?.()}
    </svg>`; // prettier-ignore
}

/** @type {WeakMap<import("./live.js").Node, {strokes: Stroke[], text: string[]}>} the drawn form of the strokes of versions */
const ofNodes = new WeakMap();

/** The strokes of the versions before the shown one that acted up to where it began, and are no longer drawn. @param {Editor} editor @returns {Stroke[]} */
function earlierStrokes(editor) {
  const { nodes, node } = editor.state;
  const branch = branchTo(nodes, node);
  if (branch.length < 2) return [];
  const drawn = new Set(editor.document.strokes.map(shape));
  return branch.slice(0, -1).flatMap((parent, i) => {
    let known = ofNodes.get(parent);
    if (!known) {
      const strokes = parent.strokes.map((stroke) => fromSheet(stroke, parent.num_frames));
      ofNodes.set(parent, (known = { strokes, text: strokes.map(shape) }));
    }
    const { strokes, text } = known;
    const end = branch[i + 1].at;
    return strokes.filter((stroke, k) => span(stroke, parent.num_frames)[0] < end && !drawn.has(text[k]));
  });
}

/** Equal for strokes at the same place. @param {Stroke} stroke */
const shape = (stroke) => JSON.stringify([stroke.kind, stroke.points]);

/** @param {{editor: Editor, stroke: Stroke}} props */
function Ghost({ editor, stroke }) {
  const points = stroke.points.map((point) => editor.view.toStage(point));
  if (stroke.kind === "hold") return html`<circle class="ghost" cx=${points[0][0]} cy=${points[0][1]} r="7" />`;
  return html`<polyline class="ghost" points=${text(points)} />`;
}

/** The path of a move, or the ring of a hold. @param {{editor: Editor, stroke: Stroke, color: string}} props */
function Line({ editor, stroke, color }) {
  const points = stroke.points.map((point) => editor.view.toStage(point));
  if (stroke.kind === "hold") {
    const [[x, y]] = points;
    return html`
      <circle class="case" cx=${x} cy=${y} r="9" /><circle class="line" cx=${x} cy=${y} r="9" stroke=${color} />
      <circle class="dot" cx=${x} cy=${y} r="2.5" fill=${color} />`;
  }
  const tip = points[points.length - 1];
  const tail = [...points].reverse().find((point) => distance(point, tip) > 4) ?? points[0];
  const head = text(arrowHead(tail, tip, 11));
  return html`
    <polyline class="case" points=${text(points)} /><polyline class="case" points=${head} />
    <polyline class="line" points=${text(points)} stroke=${color} /><polyline class="line" points=${head} stroke=${color} />`;
}

/** @param {{editor: Editor, stroke: Stroke, index: number}} props */
function StrokeShape({ editor, stroke, index }) {
  const { view, state, document } = editor;
  const selected = stroke.id === state.selected;
  const refused = state.refusal?.id === stroke.id;
  const doubtful = !refused && editor.doubts(stroke.id).length > 0;
  const color = strokeColor(index);
  const start = view.toStage(stroke.points[0]);
  const now = view.toStage(positionAt(stroke, state.frame));
  const label = `Stroke ${index + 1}: ${describe(stroke, document.settings.num_frames)}${doubtful ? ", with a warning" : ""}`;
  /** @param {KeyboardEvent} event */
  const key = (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    editor.select(stroke.id, 0);
  };
  return html`
    <g class=${`stroke${selected ? " selected" : ""}${refused ? " refused" : ""}${doubtful ? " doubtful" : ""}`} data-stroke=${stroke.id} role="button" tabindex="0"
      aria-label=${label} aria-pressed=${selected} onKeyDown=${key}>
      <${Line} editor=${editor} stroke=${stroke} color=${color} />
      ${stroke.kind === "move" && !selected && html`<circle class="start" cx=${start[0]} cy=${start[1]} r="4" fill=${color} />`}
      ${handlesAt(stroke, state.frame, document.settings.num_frames).map((place) => view.toStage(place)).map(([x, y], i) => html`
        <circle key=${i} class="follower" cx=${x} cy=${y} r="4" stroke=${color} />`)}
      ${stroke.kind === "move" && state.frame > 0 && html`<circle class="now" cx=${now[0]} cy=${now[1]} r="6" fill=${color} />`}
      <g class="badge"><circle cx=${start[0] - 13} cy=${start[1] - 13} r="8.5" /><text x=${start[0] - 13} y=${start[1] - 13}>${refused ? "!" : index + 1}</text></g>
    </g>
    ${selected && stroke.kind === "move" && stroke.points.map((point, i) => html`<${Handle} key=${i} editor=${editor} stroke=${stroke} index=${i} color=${color} />`)}
  `;
}

/** @param {{editor: Editor, stroke: Stroke, index: number, color: string}} props */
function Handle({ editor, stroke, index, color }) {
  const [x, y] = editor.view.toStage(stroke.points[index]);
  const chosen = editor.state.point === index;
  const [px, py] = stroke.points[index];
  return html`
    <circle class=${chosen ? "handle chosen" : "handle"} data-stroke=${stroke.id} data-point=${index} cx=${x} cy=${y} r=${chosen ? 7 : 5} fill=${color} role="button"
      tabindex="0" aria-label=${`Point ${index + 1} at ${Math.round(px)}, ${Math.round(py)}; arrow keys move it`} aria-pressed=${chosen}
      onFocus=${() => editor.select(stroke.id, index)} />`;
}

/** The server's sentence, at the stroke. @param {{editor: Editor, at: Point, why: string}} props */
function Refusal({ editor, at, why }) {
  const width = Math.min(280, editor.view.stage.width - 16);
  const x = Math.max(8, Math.min(at[0] - width / 2, editor.view.stage.width - width - 8));
  const y = at[1] > 120 ? at[1] - 104 : at[1] + 20;
  return html`<foreignObject x=${x} y=${y} width=${width} height="76"><div class=${at[1] > 120 ? "refusal-place above" : "refusal-place"}><div class="refusal">${why}</div></div></foreignObject>`;
}

/** @param {{editor: Editor, region: import("./document.js").Region, index: number}} props */
function RegionShape({ editor, region, index }) {
  const loops = editor.shapes.loops(region);
  if (!loops.length) return null;
  const places = loops.map((loop) => loop.map((point) => editor.view.toStage(point)));
  const path = places.map((loop) => `M${loop.map(([x, y]) => `${x.toFixed(2)} ${y.toFixed(2)}`).join("L")}Z`).join("");
  const top = places.flat().reduce((best, place) => (place[1] < best[1] ? place : best));
  const middle = Math.max(48, Math.min(top[0], editor.view.stage.width - 48));
  const above = top[1] > 64 ? top[1] - 6 : Math.max(top[1] + 18, 52); // below the note in the corner
  const selected = region.id === editor.state.region;
  const color = regionColor(index);
  const kind = region.still ? "kept still" : region.rigid ? "rigid region" : "region";
  /** @param {KeyboardEvent} event */
  const key = (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    editor.selectRegion(region.id);
  };
  return html`
    <g class=${`region${selected ? " selected" : ""}${region.still ? " still" : ""}`} data-region=${region.id} role="button" tabindex="0"
      aria-label=${`${region.name}: ${kind}`} aria-pressed=${selected} onKeyDown=${key}>
      <path class="case" d=${path} /><path class="area" d=${path} stroke=${color} fill=${color} />
      <text x=${middle} y=${above}>${region.name}</text>
      ${selected && region.polygon && places[0].map(([x, y], i) => html`<circle key=${i} class="corner" cx=${x} cy=${y} r="4.5" />`)}
    </g>`;
}
