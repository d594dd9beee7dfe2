/** Click a hold: a point that stays still. */
import { rounded } from "../geometry.js";
import { newId } from "../strokes.js";

/** @param {import("../editor.js").Editor} editor @returns {import("./tools.js").Tool} */
export function holdTool(editor) {
  return {
    id: "hold", key: "H", title: "Hold", cursor: "crosshair",
    hint: "Click a point that should stay where it is.",
    down(pen) {
      const { frame } = editor.state;
      if (!editor.view.isInPicture(pen.picture)) return editor.say("A hold has to be in the picture.");
      if (frame >= editor.document.settings.num_frames - 1) return editor.say("The clip ends at this frame. Go back to an earlier one to add a hold.");
      editor.addStroke({ id: newId(), kind: "hold", points: [[rounded(pen.picture[0]), rounded(pen.picture[1])]], start: frame, end: null });
    },
  }; // prettier-ignore
}
