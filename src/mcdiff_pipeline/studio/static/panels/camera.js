/** The moves of the camera with their numbers. */
import { CAMERA_KINDS, cameraOf, describeCamera, hasWay } from "../camera.js";
import { EASE_NAMES } from "../easing.js";
import { NumberField } from "./fields.js";
import { Icon } from "../icons.js";
import { html } from "../vendor/preact-htm.js";

/** @typedef {import("../editor.js").Editor} Editor */

/** @param {{editor: Editor}} props */
export function CameraList({ editor }) {
  const moves = cameraOf(editor.document);
  if (!moves.length && editor.state.tool !== "camera") return null;
  return html`
    <section class="strokes camera-list">
      <h2>Camera <span class="count">${moves.length || ""}</span></h2>
      ${!moves.length && html`<p class="nothing">The whole picture moves as the camera says; strokes move things in it. Each version has a camera of its own.</p>`}
      <ul>${moves.map((move) => html`<${CameraItem} key=${move.id} editor=${editor} move=${move} />`)}</ul>
    </section>`;
}

/** @param {{editor: Editor, move: import("../camera.js").CameraMove}} props */
function CameraItem({ editor, move }) {
  const open = editor.state.cameraMove === move.id;
  const { title, unit, low, high, step } = CAMERA_KINDS[move.kind];
  const last = editor.document.settings.num_frames - 1;
  const { width, height } = editor.picture;
  const change = (/** @type {Partial<import("../camera.js").CameraMove>} */ changes) => editor.putCamera({ ...move, ...changes });
  const field = (/** @type {string} */ label, /** @type {"x" | "y" | "amount" | "start" | "end"} */ name, /** @type {number} */ min, /** @type {number} */ max, by = 1) =>
    html`<${NumberField} label=${label} value=${move[name]} min=${min} max=${max} step=${by} onChange=${(/** @type {number} */ value) => change({ [name]: value })} />`;
  return html`
    <li class=${open ? "open" : ""}>
      <div class="row">
        <button class="row-main" aria-expanded=${open} aria-label=${describeCamera(move)} onClick=${() => editor.selectCamera(open ? null : move.id)}>
          <${Icon} name="camera" /><span class="what">${title}</span><span class="when">${Math.round(move.start)}–${Math.round(move.end)}</span>
        </button>
        <button class="icon-button quiet" aria-label=${`Remove ${describeCamera(move)}`} title="Remove" onClick=${() => editor.removeCamera(move.id)}><${Icon} name="bin" /></button>
      </div>
      ${open && html`
        <div class="numbers">
          <div class="pair">${hasWay(move.kind)
            ? [field("right", "x", -4 * width, 4 * width), field("down", "y", -4 * height, 4 * height)]
            : [field(unit, "amount", low, high, step)]}</div>
          <div class="pair">${field("From frame", "start", 0, move.end - 1)}${field("to", "end", move.start + 1, last)}</div>
          <label class="number wide-field">Speed
            <select value=${move.ease} onChange=${(/** @type {any} */ event) => change({ ease: event.target.value })}>
              ${Object.entries(EASE_NAMES).map(([name, words]) => html`<option key=${name} value=${name}>${words}</option>`)}
            </select></label>
        </div>`}
    </li>`;
}
