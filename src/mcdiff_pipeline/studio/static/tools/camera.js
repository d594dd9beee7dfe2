/** Drag the picture where the camera shall see it move; other moves of the camera are buttons and numbers. */
import { CAMERA_KINDS, cameraAt, cameraOf, movedBack, newCameraMove, seenBy } from "../camera.js";
import { rounded } from "../geometry.js";
import { html } from "../vendor/preact-htm.js";

/** @param {import("../editor.js").Editor} editor @returns {import("./tools.js").Tool} */
export function cameraTool(editor) {
  /** @type {import("../geometry.js").Point | null} */
  let from = null;
  /** @type {string | null} */
  let id = null;
  return {
    id: "camera", key: "C", title: "Camera", cursor: "grab",
    hint: "Drag to pan. The list and the timeline have the numbers and times of all moves.",
    down(pen) {
      from = pen.stage;
      id = null;
    },
    move(pens) {
      if (!from) return;
      const { stage } = pens[pens.length - 1];
      const [dx, dy] = [(stage[0] - from[0]) / editor.view.scale, (stage[1] - from[1]) / editor.view.scale];
      if (!id && Math.hypot(dx, dy) * editor.view.scale < 3) return;
      const old = cameraOf(editor.document).find((move) => move.id === id);
      const move = old ?? newCameraMove("pan", editor.picture, Math.min(editor.state.frame, editor.document.settings.num_frames - 2), editor.document.settings.num_frames - 1);
      id = move.id;
      // the camera goes against the picture
      editor.putCamera({ ...move, x: rounded(-dx), y: rounded(-dy) }, "pan");
    },
    up() {
      if (from && !id) editor.say("Drag further to pan, or take a button above the picture.");
      from = null;
      editor.commit();
    },
    cancel() {
      if (id) {
        editor.history.abandon();
        editor.changed();
      }
      from = id = null;
    },
    overlay: () => {
      const moves = cameraOf(editor.document);
      if (!moves.length || editor.state.frame > 0) return null;
      const { width, height } = editor.picture;
      const { num_frames: numFrames } = editor.document.settings;
      const seen = seenBy(cameraAt(moves, numFrames - 1), editor.picture);
      const corners = /** @type {import("../geometry.js").Point[]} */ ([[0, 0], [width, 0], [width, height], [0, height]]); // prettier-ignore
      const places = corners.map((corner) => editor.view.toStage(movedBack(seen, corner)));
      return html`<polygon class="camera-end case" points=${places.join(" ")} /><polygon class="camera-end" points=${places.join(" ")} />
        <text class="camera-name" x=${places[0][0] + 6} y=${places[0][1] + 16}>what frame ${numFrames - 1} shows</text>`;
    },
    options: () => html`
      <div class="choice" role="group" aria-label="Add a move of the camera">
        ${Object.entries(CAMERA_KINDS).map(([kind, { title, hint }]) => html`
          <button key=${kind} title=${`Add a move of the camera that ${hint}`} onClick=${() => editor.addCamera(/** @type {any} */ (kind))}>${title}</button>`)}
      </div>`,
  }; // prettier-ignore
}
