/** Pull a thing: frames are made while one drags it, and go on for as long as one does. */
import { html } from "../vendor/preact-htm.js";

/** @param {import("../editor.js").Editor} editor @returns {import("./tools.js").Tool} */
export function pullTool(editor) {
  const { live } = editor;
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
    leave() {
      if (editor.state.render?.endless) live.stop();
    },
    options: () => html`
      <button class="button small" disabled=${!editor.state.render?.endless} onClick=${() => live.stop()} title="Keep the frames and the strokes (Esc)">Done</button>`,
  }; // prettier-ignore
}
