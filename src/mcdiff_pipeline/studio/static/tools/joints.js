/** Drag a joint of a person who is found in the frame. */
import { distance, rounded } from "../geometry.js";
import { targetRadius } from "../hits.js";
import { drawnMove, newId, positionAt } from "../strokes.js";
import { html } from "../vendor/preact-htm.js";

/**
 * @typedef {import("../geometry.js").Point} Point
 * @typedef {{person: number, joint: number, name: string, place: Point}} Joint `place` in the scene, in pixels of the picture
 */
const SURE = 0.5;
const SHORTEST = 3;
// Eyes and ears: the nose stands for them.
const OF_THE_FACE = [1, 2, 3, 4];
// Pairs of COCO keypoints that are shown as limbs.
const LIMBS = [[5, 7], [7, 9], [6, 8], [8, 10], [5, 6], [5, 11], [6, 12], [11, 12], [11, 13], [13, 15], [12, 14], [14, 16]]; // prettier-ignore

/** @param {import("../editor.js").Editor} editor @returns {import("./tools.js").Tool} */
export function jointsTool(editor) {
  /** @type {Joint[]} */
  let joints = [];
  /** @type {string | null} the frame whose people are known, or asked for */
  let asked = null;
  let why = "";
  let holdOthers = true;
  /** @type {{joint: Joint, path: import("../stage.js").Pen[]} | null} */
  let drag = null;

  /** Asks for the people of the shown frame, once. */
  async function look() {
    const { node, frame, model } = editor.state;
    const key = frame > 0 ? `${node} ${frame}` : "picture";
    if (asked === key || model?.state !== "ready" || editor.state.playing) return;
    asked = key;
    joints = [];
    why = model.joints?.ready === false ? model.joints.why : "Looking for people …";
    editor.store.schedule();
    if (model.joints?.ready === false) return;
    const answer = await editor.live.ask({ type: "joints", node: frame > 0 ? node : null, frame });
    if (asked !== key) return;
    why = answer.type === "refused" ? answer.why : answer.people.length ? "" : "Nobody is found in this frame.";
    const people = answer.people ?? [];
    joints = people.flatMap((/** @type {any} */ { points }, /** @type {number} */ person) =>
      points.flatMap((/** @type {[number, number, number]} */ [x, y, sure], /** @type {number} */ joint) =>
        sure < SURE ? [] : [{ person, joint, name: answer.names[joint].replaceAll("_", " "), place: editor.view.toPicture(editor.view.fromFrame([x, y])) }]));
    editor.store.schedule();
  }

  /** @param {import("../stage.js").Pen} pen */
  const under = (pen) => {
    const far = (/** @type {Joint} */ joint) => distance(editor.view.toStage(joint.place), pen.stage);
    const near = joints.filter((joint) => far(joint) < targetRadius(pen.type));
    return near.sort((a, b) => far(a) - far(b))[0] ?? null;
  };

  const stroke = () => {
    const { joint, path } = /** @type {NonNullable<typeof drag>} */ (drag);
    const { num_frames: numFrames, fps } = editor.document.settings;
    const [first] = path;
    // the joint moves as the pen does
    const points = path.map(({ picture: [x, y] }) => editor.view.clampToReach([joint.place[0] + x - first.picture[0], joint.place[1] + y - first.picture[1]]));
    const tolerance = (0.5 * Math.min(editor.picture.width, editor.picture.height)) / Math.sqrt(editor.state.model?.area ?? 128 * 128);
    return drawnMove(points, path.map((pen) => pen.time), { start: editor.state.frame, last: numFrames - 1, tolerance, fps, record: editor.state.record }); // prettier-ignore
  };

  /** Adds a move of a joint, and holds at the person's other joints that no stroke begins at. @param {Joint} joint @param {import("../strokes.js").Move} move */
  function add(joint, move) {
    const { frame } = editor.state;
    const { strokes } = editor.document;
    const free = (/** @type {Joint} */ other) => strokes.every((one) => distance(positionAt(one, frame), other.place) * editor.view.scale > 6);
    const others = holdOthers ? joints.filter((other) => other.person === joint.person && other.joint !== joint.joint && !OF_THE_FACE.includes(other.joint) && free(other)) : [];
    const holds = others.map(({ place: [x, y] }) => ({ id: newId(), kind: /** @type {const} */ ("hold"), points: [/** @type {Point} */ ([rounded(x), rounded(y)])], start: frame, end: null }));
    editor.edit({ ...editor.document, strokes: [...strokes, move, ...holds] });
    editor.select(move.id);
    if (holds.length) editor.say(`The ${joint.name} moves, and ${holds.length} other joints are held.`);
  }

  /** For those who do not draw: a move to the right, to be changed with keys or numbers. @param {Joint} joint */
  function addByKey(joint) {
    const { num_frames: numFrames } = editor.document.settings;
    const [x, y] = joint.place.map((value) => rounded(value));
    const last = numFrames - 1;
    if (editor.state.frame >= last) return;
    add(joint, { id: newId(), kind: "move", points: [[x, y], [rounded(x + editor.picture.width * 0.1), y]], frames: [editor.state.frame, last] }); // prettier-ignore
  }

  return {
    id: "joints", key: "J", title: "Joints", cursor: "default",
    get hint() {
      return why || "Drag a joint of a person to where it should go.";
    },
    down(pen) {
      if (editor.state.frame >= editor.document.settings.num_frames - 1) return editor.say("The clip ends at this frame. Go back to an earlier one.");
      const joint = under(pen);
      if (joint) drag = { joint, path: [pen] };
      else editor.say(why || "Drag one of the dots.");
    },
    move(pens) {
      if (!drag) return;
      drag.path.push(...pens);
      if (distance(drag.path[0].stage, pens[pens.length - 1].stage) < SHORTEST) return;
      editor.store.set({ pending: { ...stroke(), id: "pending" } });
      editor.live.requestFlow();
    },
    up(pen) {
      if (!drag) return;
      drag.path.push(pen);
      editor.store.set({ pending: null });
      if (drag.path.some((one) => distance(one.stage, /** @type {any} */ (drag).path[0].stage) >= SHORTEST)) add(drag.joint, stroke());
      drag = null;
    },
    cancel() {
      drag = null;
    },
    leave() {
      asked = null;
      drag = null;
    },
    overlay: () => {
      look();
      const at = (/** @type {Joint} */ joint) => editor.view.toStage(joint.place);
      const limbs = LIMBS.flatMap(([a, b]) => joints.filter((joint) => joint.joint === a).map((joint) => [joint, joints.find((other) => other.person === joint.person && other.joint === b)]));
      return html`
        <g class="joints">
          ${limbs.map(([a, b], i) => a && b && html`<line key=${i} x1=${at(a)[0]} y1=${at(a)[1]} x2=${at(b)[0]} y2=${at(b)[1]} />`)}
          ${joints.map((joint) => html`
            <circle key=${`${joint.person} ${joint.joint}`} cx=${at(joint)[0]} cy=${at(joint)[1]} r="6" role="button" tabindex="0" data-joint=${joint.name}
              aria-label=${`${joint.name} of person ${joint.person + 1}; Enter adds a move`}
              onKeyDown=${(/** @type {KeyboardEvent} */ event) => event.key === "Enter" && (event.preventDefault(), addByKey(joint))} />`)}
        </g>`;
    },
    options: () => html`
      <label class="check" title="The person's other joints stay where they are">
        <input type="checkbox" checked=${holdOthers} onChange=${() => ((holdOthers = !holdOthers), editor.store.schedule())} /> Hold the others
      </label>`,
  }; // prettier-ignore
}
