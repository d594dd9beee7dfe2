/**
 * Two versions at the same frame: side by side, one wiped over the other, or how much they differ. While they are
 * compared nothing is drawn, and the pointer moves the view or the wipe.
 *
 * @typedef {"side" | "wipe" | "difference"} Mode
 * @typedef {{a: string, b: string, mode: Mode, wipe: number}} Comparison `wipe` is a share of the width of the stage
 */
import { branchTo, lastOf } from "./versions.js";

export const MODES = /** @type {[Mode, string][]} */ ([["side", "Side by side"], ["wipe", "Wipe"], ["difference", "Difference"]]); // prettier-ignore
/** Differences are doubled so often, to be seen. */
const DOUBLINGS = 2;

/** Compares the shown version with another one. @param {import("./editor.js").Editor} editor @param {string} [other] */
export function compare(editor, other) {
  const { node, nodes, compare: before } = editor.state;
  const made = [...nodes.values()].filter((one) => lastOf(one) > 0);
  const a = before?.a ?? (node && nodes.has(node) ? node : made.at(-1)?.id);
  const b = other && other !== a ? other : before?.b ?? nearest(nodes, made, a);
  if (!a || !b) return editor.say("Comparing needs two versions. Change a stroke, and render again.");
  editor.playback.pause();
  editor.stage?.abandon();
  setComparison(editor, { mode: "side", wipe: 0.5, ...before, a, b });
}

/** The newest version that goes another way, else the one that this one came from. @param {Map<string, import("./live.js").Node>} nodes @param {import("./live.js").Node[]} made @param {string | undefined} a */
function nearest(nodes, made, a) {
  const branch = new Set(branchTo(nodes, a ?? null).map((node) => node.id));
  return (made.filter((one) => !branch.has(one.id)).at(-1) ?? made.filter((one) => one.id !== a).at(-1))?.id;
}

/** @param {import("./editor.js").Editor} editor @param {Comparison | null} comparison */
export function setComparison(editor, comparison) {
  editor.store.set({ compare: comparison, follow: false });
  if (editor.state.frame > editor.lastFrame()) editor.store.set({ frame: editor.lastFrame() });
  editor.stage?.resized();
  if (!comparison) editor.live.requestFlow();
}

/** @param {import("./editor.js").Editor} editor */
export function nextMode(editor) {
  const { compare: now } = editor.state;
  if (!now) return;
  const index = MODES.findIndex(([mode]) => mode === now.mode);
  setComparison(editor, { ...now, mode: MODES[(index + 1) % MODES.length][0] });
}

/** Where the stage is parted: the two halves lie along its longer side. @param {import("./editor.js").Editor} editor @param {number} width @param {number} height @returns {[number, number]} how far the second half lies from the first */
export function halves(editor, width, height) {
  if (editor.state.compare?.mode !== "side") return [0, 0];
  return width >= height ? [width / 2, 0] : [0, height / 2];
}

/**
 * @param {{width: number, height: number, editor: import("./editor.js").Editor}} stage
 * @param {CanvasRenderingContext2D} context in CSS pixels
 * @param {Comparison} comparison
 * @param {() => void} drawA paints the first picture at its place on the stage
 * @param {() => void} drawB
 */
export function paintComparison({ width, height, editor }, context, { mode, wipe }, drawA, drawB) {
  /** @param {number} x @param {number} y @param {number} w @param {number} h @param {() => void} paint */
  const within = (x, y, w, h, paint) => {
    context.save();
    context.beginPath();
    context.rect(x, y, w, h);
    context.clip();
    paint();
    context.restore();
  };
  if (mode === "difference") {
    context.save();
    drawA();
    context.globalCompositeOperation = "difference";
    drawB();
    context.globalCompositeOperation = "lighter";
    context.setTransform(1, 0, 0, 1, 0, 0);
    for (let i = 0; i < DOUBLINGS; i++) context.drawImage(context.canvas, 0, 0);
    return context.restore();
  }
  const [dx, dy] = halves(editor, width, height);
  const cut = mode === "wipe" ? wipe * width : dx;
  within(0, 0, cut || width, dy || height, drawA);
  within(cut, dy, width - cut, height - dy, () => {
    context.translate(dx, dy);
    drawB();
  });
  context.fillStyle = "rgba(255, 255, 255, .9)";
  if (dy) context.fillRect(0, dy - 1, width, 2);
  else context.fillRect(cut - 1, 0, 2, height);
}
