/** Brush what must not move: a rigid region that is held. */
import { freeName } from "../document.js";
import { newId } from "../strokes.js";
import { html } from "../vendor/preact-htm.js";
import { Brush } from "./brush.js";

/** @param {import("../editor.js").Editor} editor @returns {import("./tools.js").Tool} */
export function stillTool(editor) {
  const brush = new Brush(editor);
  return {
    id: "still", key: "B", title: "Keep still", cursor: "none",
    hint: "Brush over what must not move. Alt takes away.",
    down(pen) {
      if (editor.state.frame > 0) return editor.say("Still areas are drawn on the given picture. Go to frame 0 (Home).");
      brush.down(pen, pen.alt || !editor.state.adding);
    },
    move: (pens) => brush.move(pens),
    async up() {
      if (!brush.path.length) return;
      const selected = editor.document.regions.find((region) => region.id === editor.state.region && region.still);
      const old = selected ?? editor.document.regions.find((region) => region.still) ?? null;
      if (brush.erasing && !old) return brush.cancel();
      const made = await brush.finish(old);
      if (!made) {
        if (old) editor.removeRegion(old.id);
      } else if (made.share > 0.999) {
        editor.say("That is the whole picture. Leave out what should move.");
      } else {
        const { polygon: _, ...rest } = old ?? { id: newId(), name: freeName(editor.document, "Still"), rigid: true, order: null, still: true };
        editor.putRegion({ ...rest, mask: made.url });
      }
    },
    cancel: () => brush.cancel(),
    overlay: () => brush.overlay(),
    options: () => html`
      <div class="choice" role="group" aria-label="What the brush does">
        <button aria-pressed=${editor.state.adding} onClick=${() => editor.store.set({ adding: true })}>Add</button>
        <button aria-pressed=${!editor.state.adding} onClick=${() => editor.store.set({ adding: false })}>Take away</button>
      </div>
      ${brush.size()}
    `,
  }; // prettier-ignore
}
