/** Brush over strokes to remove them. */
import { strokeUnder, targetRadius } from "../hits.js";
import { removeStrokes } from "../document.js";
import { html } from "../vendor/preact-htm.js";

/** @param {import("../editor.js").Editor} editor @returns {import("./tools.js").Tool} */
export function eraserTool(editor) {
  let count = 0;
  /** @param {import("../stage.js").Pen} pen */
  const wipe = (pen) => {
    const hit = strokeUnder(editor.document.strokes, null, pen.stage, targetRadius(pen.type), editor.view);
    if (!hit) return;
    count++;
    editor.edit(removeStrokes(editor.document, hit.stroke.id), "erase");
  };
  return {
    id: "eraser", key: "E", title: "Eraser", cursor: "none",
    hint: "Brush over strokes to remove them.",
    down(pen) {
      count = 0;
      wipe(pen);
    },
    move: (pens) => pens.forEach(wipe),
    up() {
      editor.commit();
      if (count) editor.say(`${count === 1 ? "One stroke" : `${count} strokes`} removed.`);
    },
    cancel: () => {
      if (count) editor.history.abandon();
      if (count) editor.changed();
    },
    overlay: () => {
      const { pointer } = editor.state;
      return pointer && html`<circle class="brush-ring" cx=${pointer.stage[0]} cy=${pointer.stage[1]} r=${targetRadius(pointer.type)} />`;
    },
  }; // prettier-ignore
}
