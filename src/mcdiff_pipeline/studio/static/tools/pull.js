/** Pull a thing: frames are made while one drags it, and go on for as long as one does. */
import { html } from "../vendor/preact-htm.js";

/** What a press of an arrow key pulls, as a share of the shorter side. */
const KEY_STEP = 0.02;
/** So long after the last press the thing is let go, in milliseconds. */
const HELD_MS = 400;

/** @param {import("../editor.js").Editor} editor @returns {import("./tools.js").Tool} */
export function pullTool(editor) {
  const { live } = editor;
  /** @type {import("../geometry.js").Point | null} where the pen is, for those who use arrow keys */
  let place = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let held = undefined;

  const letGo = () => {
    held = undefined;
    live.pull(null, place, false);
  };

  return {
    id: "pull", key: "L", title: "Live", cursor: "grab",
    hint: "Drag a thing: frames are made while you do, without an end. What you did becomes strokes.",
    down(pen) {
      if (!editor.view.isInPicture(pen.picture)) return editor.say("Take hold of something in the picture.");
      live.pull(editor.view.clampToReach(pen.picture), editor.view.clampToReach(pen.picture), true);
    },
    move(pens) {
      live.pull(null, editor.view.clampToReach(pens[pens.length - 1].picture), true);
    },
    up(pen) {
      live.pull(null, editor.view.clampToReach(pen.picture), false);
    },
    cancel() {
      live.pull(null, null, false);
    },
    keydown({ key, shiftKey, ctrlKey, metaKey }) {
      const way = /** @type {Record<string, number[]>} */ ({ ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] })[key];
      if (!way || ctrlKey || metaKey) return false;
      const { width, height } = editor.picture;
      const from = place ?? editor.selectedStroke()?.points[0] ?? [width / 2, height / 2];
      const step = KEY_STEP * Math.min(width, height) * (shiftKey ? 5 : 1);
      place = editor.view.clampToReach([from[0] + way[0] * step, from[1] + way[1] * step]);
      live.pull(held === undefined ? from : null, place, true);
      clearTimeout(held);
      held = setTimeout(letGo, HELD_MS);
      return true;
    },
    overlay: () => {
      if (!place || !editor.state.render?.endless) return null;
      const [x, y] = editor.view.toStage(place);
      return html`<circle class="brush-ring" cx=${x} cy=${y} r="9" />`;
    },
    leave() {
      place = null;
      if (editor.state.render?.endless) live.stop();
    },
    options: () => html`
      <button class="button small" disabled=${!editor.state.render?.endless} onClick=${() => live.stop()} title="Keep the frames and the strokes (Esc)">Done</button>`,
  }; // prettier-ignore
}
