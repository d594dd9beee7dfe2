/** The panel: strokes with their numbers, regions, versions. It does with keys and numbers what the picture does with a pen. */
import { CameraList } from "./camera.js";
import { Cell, NumberField, paint } from "./fields.js";
import { Icon } from "../icons.js";
import { strokeColor } from "../layer.js";
import { Regions } from "./regions.js";
import { Versions } from "./versions.js";
import { positionAt, retimed, span, withPoint, withTime, withoutPoint } from "../strokes.js";
import { StrokeButtons } from "./stroke_buttons.js";
import { StrokeControls } from "./stroke_controls.js";
import { TrackList } from "./tracks.js";
import { html, useEffect, useRef } from "../vendor/preact-htm.js";

/** @typedef {import("../editor.js").Editor} Editor */

/** @param {{editor: Editor}} props */
export function SidePanel({ editor }) {
  return html`
    <aside class="side" aria-label="Strokes, regions and versions">
      <${Strokes} editor=${editor} />
      <${CameraList} editor=${editor} />
      <${Regions} editor=${editor} />
      <${Versions} editor=${editor} />
      <${TrackList} editor=${editor} />
    </aside>`;
}

/** @param {{editor: Editor}} props */
function Strokes({ editor }) {
  const { strokes } = editor.document;
  return html`
    <section class="strokes">
      <h2>Strokes <span class="count">${strokes.length || ""}</span>
        <button class="button small" onClick=${() => editor.addMoveAtCenter()} title="Adds a move in the middle, to be changed with numbers">Add move</button></h2>
      ${!strokes.length && html`<p class="nothing">Drag on the picture: the point under the pen moves where you drag it.</p>`}
      <ul>${strokes.map((stroke, index) => html`<${StrokeItem} key=${stroke.id} editor=${editor} stroke=${stroke} index=${index} />`)}</ul>
    </section>`;
}

/** @param {{editor: Editor, stroke: import("../strokes.js").Stroke, index: number}} props */
function StrokeItem({ editor, stroke, index }) {
  const { selected, refusal } = editor.state;
  const open = selected === stroke.id;
  const [start, end] = span(stroke, editor.document.settings.num_frames);
  const refused = refusal?.id === stroke.id;
  const doubts = refused ? [] : editor.doubts(stroke.id);
  const element = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => void (open && element.current?.scrollIntoView({ block: "nearest" })), [open]);
  return html`
    <li ref=${element} class=${`${open ? "open" : ""}${refused ? " refused" : ""}${doubts.length ? " doubtful" : ""}`}>
      <div class="row">
        <button class="row-main" aria-expanded=${open} onClick=${() => editor.select(open ? null : stroke.id)}>
          <span class="swatch" ref=${paint("background", strokeColor(index))}>${index + 1}</span>
          <span class="what">${stroke.kind === "hold" ? "Hold" : "Move"}</span>
          <span class="when">${short(start)}–${stroke.kind === "hold" && stroke.end === null ? "end" : short(end)}</span>
        </button>
        <button class="icon-button quiet" aria-label=${`Remove stroke ${index + 1}`} title="Remove" onClick=${() => editor.removeStroke(stroke.id)}><${Icon} name="bin" /></button>
      </div>
      ${refused && html`<p class="why">${refusal?.why}</p>`}
      ${doubts.map(({ ids, text }) => ids[0] === stroke.id && html`<p key=${text} class="why doubt">${text}</p>`)}
      ${open && html`<${StrokeNumbers} editor=${editor} stroke=${stroke} />`}
    </li>`;
}

/** @param {number} value */
const short = (value) => String(Math.round(value * 10) / 10);

/** @param {{editor: Editor, stroke: import("../strokes.js").Stroke}} props */
function StrokeNumbers({ editor, stroke }) {
  const last = editor.document.settings.num_frames - 1;
  const [start, end] = span(stroke, last + 1);
  const { width, height } = editor.picture;
  const regions = editor.document.regions.filter((region) => !region.still);
  /** @param {number} from @param {number} to */
  const retime = (from, to) => editor.replaceStroke(retimed(stroke, from, stroke.kind === "hold" && to >= last ? null : to));
  return html`
    <div class="numbers">
      <div class="pair">
        <${NumberField} label="From frame" value=${start} min=${0} max=${Math.max(0, end - 1)} step=${stroke.kind === "hold" ? 1 : 0.1} onChange=${(/** @type {number} */ value) => retime(value, end)} />
        <${NumberField} label="to" value=${end} min=${start + 1} max=${Math.max(last, end)} step=${stroke.kind === "hold" ? 1 : 0.1} onChange=${(/** @type {number} */ value) => retime(start, value)} />
      </div>
      ${stroke.kind === "move" && html`
        <label class="check"><input type="checkbox" checked=${stroke.stay === true} onChange=${() => editor.replaceStroke({ ...stroke, stay: !stroke.stay })} /> Stay on arrival</label>`}
      ${regions.length > 0 && html`
        <label class="number">Region
          <select value=${stroke.region ?? ""} onChange=${(/** @type {any} */ event) => editor.replaceStroke(inRegion(stroke, event.target.value))}>
            <option value="">where it starts</option>
            ${stroke.region === 0 && html`<option value="0">none</option>`}
            ${regions.map((region) => html`<option key=${region.id} value=${region.name}>${region.name}</option>`)}
          </select></label>`}
      <${StrokeControls} editor=${editor} stroke=${stroke} />
      <table>
        <thead><tr><th scope="col">Point</th><th scope="col">x</th><th scope="col">y</th>${stroke.kind === "move" && html`<th scope="col">frame</th>`}<td></td></tr></thead>
        <tbody>
          ${stroke.points.map(([x, y], i) => html`
            <tr key=${i} class=${editor.state.point === i ? "chosen" : ""}>
              <th scope="row"><button class="point" aria-label=${`Select point ${i + 1}`} onClick=${() => editor.select(stroke.id, i)}>${i + 1}</button></th>
              <td><${Cell} label=${`x of point ${i + 1}`} value=${x} min=${-width} max=${2 * width} onChange=${(/** @type {number} */ value) => editor.replaceStroke(withPoint(stroke, i, [value, y]))} /></td>
              <td><${Cell} label=${`y of point ${i + 1}`} value=${y} min=${-height} max=${2 * height} onChange=${(/** @type {number} */ value) => editor.replaceStroke(withPoint(stroke, i, [x, value]))} /></td>
              ${stroke.kind === "move" && html`<td><${Cell} label=${`frame of point ${i + 1}`} value=${stroke.frames[i]} min=${0} max=${Math.max(last, end)} onChange=${(/** @type {number} */ value) => editor.replaceStroke(withTime(stroke, i, value))} /></td>`}
              <td>${stroke.points.length > 2 && html`<button class="icon-button quiet" aria-label=${`Remove point ${i + 1}`} onClick=${() => removePoint(editor, stroke, i)}><${Icon} name="close" /></button>`}</td>
            </tr>`)}
        </tbody>
      </table>
      <${StrokeButtons} editor=${editor} stroke=${stroke} />
      <div class="pair">
        ${stroke.kind === "move" && html`<button class="button small" onClick=${() => addPoint(editor, stroke)}>Add point</button>`}
        ${stroke.kind === "move"
          ? html`<button class="button small" onClick=${() => editor.replaceStroke({ id: stroke.id, kind: "hold", points: [positionAt(stroke, 0)], start: Math.ceil(start), end: null })}>Make it a hold</button>`
          : html`<button class="button small" onClick=${() => toMove(editor, stroke)}>Make it a move</button>`}
      </div>
    </div>`;
}

/** @param {import("../strokes.js").Stroke} stroke @param {string} name */
function inRegion(stroke, name) {
  const { region: _, ...rest } = stroke;
  return /** @type {import("../strokes.js").Stroke} */ (name ? { ...rest, region: name === "0" ? 0 : name } : rest);
}

/** @param {Editor} editor @param {import("../strokes.js").Stroke} stroke @param {number} index */
function removePoint(editor, stroke, index) {
  const next = withoutPoint(stroke, index);
  if (next) editor.replaceStroke(next);
}

/** @param {Editor} editor @param {import("../strokes.js").Move} stroke */
function addPoint(editor, stroke) {
  const { points, frames } = stroke;
  const n = points.length;
  const [a, b] = [points[n - 2], points[n - 1]];
  const middle = /** @type {import("../geometry.js").Point} */ ([(a[0] + b[0]) / 2, (a[1] + b[1]) / 2]);
  editor.replaceStroke({ ...stroke, points: [...points.slice(0, -1), middle, b], frames: [...frames.slice(0, -1), (frames[n - 2] + frames[n - 1]) / 2, frames[n - 1]] });
  editor.select(stroke.id, n - 1);
}

/** @param {Editor} editor @param {import("../strokes.js").Hold} stroke */
function toMove(editor, stroke) {
  const [[x, y]] = stroke.points;
  const last = editor.document.settings.num_frames - 1;
  editor.replaceStroke({ id: stroke.id, kind: "move", points: [[x, y], [x + editor.picture.width * 0.1, y]], frames: [stroke.start, Math.max(last, stroke.start + 1)] }); // prettier-ignore
}
