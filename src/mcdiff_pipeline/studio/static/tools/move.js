/** Drag a move: where the point under the pen goes. */
import { distance } from "../geometry.js";
import { strokeUnder, targetRadius } from "../hits.js";
import { setPreference } from "../storage.js";
import { drawnMove } from "../strokes.js";
import { html } from "../vendor/preact-htm.js";

const SHORTEST = 3;

/** @param {import("../editor.js").Editor} editor @returns {import("./tools.js").Tool} */
export function moveTool(editor) {
  /** @type {import("../stage.js").Pen[]} */
  let path = [];

  /** Half a pixel of the size at which motion is computed, in pixels of the picture. */
  const tolerance = () => {
    const working = editor.document.settings.work ?? Math.sqrt(editor.state.model?.area ?? 128 * 128);
    return (0.5 * Math.min(editor.picture.width, editor.picture.height)) / working;
  };

  const stroke = () =>
    drawnMove(
      path.map((pen) => editor.view.clampToReach(pen.picture)),
      path.map((pen) => pen.time),
      { start: editor.state.frame, last: editor.document.settings.num_frames - 1, tolerance: tolerance(), fps: editor.document.settings.fps, record: editor.state.record },
    );

  const length = () => Math.max(0, ...path.map((pen) => distance(pen.stage, path[0].stage)));

  return {
    id: "move", key: "M", title: "Move", cursor: "crosshair",
    hint: "Drag from a point to where it should go.",
    down(pen) {
      path = [pen];
      if (editor.state.frame >= editor.document.settings.num_frames - 1) {
        path = [];
        editor.say("The clip ends at this frame. Go back to an earlier one, or give the clip more frames.");
      }
    },
    move(pens) {
      if (!path.length) return;
      path.push(...pens);
      if (length() < SHORTEST) return;
      editor.store.set({ pending: { ...stroke(), id: "pending" } });
      editor.live.requestFlow();
    },
    up(pen) {
      if (!path.length) return;
      path.push(pen);
      editor.store.set({ pending: null });
      if (length() >= SHORTEST) {
        const drawn = stroke();
        editor.addStroke(editor.state.stay ? { ...drawn, stay: true } : drawn);
      } else {
        const hit = strokeUnder(editor.document.strokes, editor.state.selected, pen.stage, targetRadius(pen.type), editor.view);
        if (hit) editor.select(hit.stroke.id, hit.point);
        else editor.say("Too short for a move: drag further. To keep a point still, press H and click it.");
      }
      path = [];
    },
    cancel() {
      path = [];
    },
    options: () => html`
      <div class="choice" role="group" aria-label="Timing of new moves">
        <button aria-pressed=${!editor.state.record} onClick=${() => record(false)} title="The move lasts to the end of the clip, at constant speed">Even</button>
        <button aria-pressed=${editor.state.record} onClick=${() => record(true)} title="The move takes as long as your hand did, and speeds up and slows down with it">As drawn</button>
      </div>
      <label class="check" title="A move that ends early keeps its end still until the clip ends">
        <input type="checkbox" checked=${editor.state.stay} onChange=${() => editor.store.set({ stay: !editor.state.stay })} /> Stay on arrival
      </label>
    `,
  }; // prettier-ignore

  /** @param {boolean} on */
  function record(on) {
    editor.store.set({ record: on });
    setPreference("record", on ? "on" : "off");
  }
}
