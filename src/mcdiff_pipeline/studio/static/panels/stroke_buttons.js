/** Changes of the selected stroke, as buttons. */
import { copied, even, mirrored, reversed, smoothed } from "../stroke_changes.js";
import { html } from "../vendor/preact-htm.js";

/** @typedef {import("../strokes.js").Move} Move */

/** @type {[string, string, (stroke: Move, numFrames: number) => Move][]} */
const CHANGES = [
  ["Mirror ↔", "To the other side, about its beginning", (stroke) => mirrored(stroke, "x")],
  ["Mirror ↕", "Upside down, about its beginning", (stroke) => mirrored(stroke, "y")],
  ["Reverse", "From its end to its beginning", reversed],
  ["Smooth", "Cuts its corners", smoothed],
  ["Even", "At constant speed", even],
];

/** @param {import("../editor.js").Editor} editor */
export function copySelected(editor) {
  const stroke = editor.selectedStroke();
  if (stroke) editor.addStroke(copied(stroke, editor.picture));
  else editor.say("Select a stroke first; Ctrl D copies it.");
}

/** @param {{editor: import("../editor.js").Editor, stroke: import("../strokes.js").Stroke}} props */
export function StrokeButtons({ editor, stroke }) {
  return html`
    <div class="pair stroke-changes" role="group" aria-label="Change the stroke">
      <button class="button small" title="Adds the same beside it (Ctrl D)" onClick=${() => copySelected(editor)}>Copy</button>
      ${stroke.kind === "move" && CHANGES.map(([name, title, change]) => html`
        <button key=${name} class="button small" title=${title} onClick=${() => (editor.replaceStroke(change(stroke, editor.document.settings.num_frames)), editor.select(stroke.id))}>${name}</button>`)}
    </div>`;
}
