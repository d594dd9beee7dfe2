/**
 * Keys of the editor. Single letters can be switched off in the help; all else works with a modifier or is usual.
 *
 * @typedef {import("./editor.js").Editor} Editor
 */
import { copySelected } from "./panels/stroke_buttons.js";
import { cameraOf, draggedMove } from "./camera.js";
import { compare, nextMode, setComparison } from "./compare.js";
import { movedBy, shifted, withPoint } from "./strokes.js";

const TOOL_KEYS = /** @type {Record<string, string>} */ ({ v: "select", m: "move", h: "hold", b: "still", r: "region", c: "camera", j: "joints", e: "eraser", l: "pull" });

/** @type {[string, string][]} for the help: keys and what they do */
export const KEY_LIST = [
  ["V M H B R C J E L", "tools: select, move, hold, keep still, region, camera, joints, eraser, live"],
  ["Enter", "render; while it renders: use the changed strokes from the next frame on"],
  ["Shift Enter", "render after the others, from a queue"],
  ["arrows, with Live", "pull the selected stroke, else the middle; Shift: five times as far"],
  ["P", "pause the render, or go on with it"],
  ["A", "compare two versions; again: the next way to do so"],
  ["Esc", "stop the render, or end what is being drawn or selected"],
  ["← →", "frame by frame; with a selected point: nudge it, Shift for 10 pixels"],
  ["Home End", "first and last frame"],
  ["Space", "play and pause; held: drag the view"],
  ["Ctrl Z, Ctrl Shift Z", "undo, redo"],
  ["Ctrl D", "copy the selected stroke"],
  ["Delete", "remove the selected point, stroke, region or move of the camera"],
  ["[ ]", "shift the selected stroke or move of the camera in time"],
  ["F", "show or hide the flow"],
  ["T", "show or hide where handles were to go, and where they are found"],
  ["+ − 0 1", "zoom in, out, whole picture, actual pixels"],
  ["Ctrl + arrows", "move the view"],
  ["↑ ↓ ← →, in the tools and the versions", "to another one; ← → fold and unfold versions, Enter shows one, Delete removes it"],
  ["?", "this help"],
];

/** @param {EventTarget | null} target */
const isField = (target) =>
  target instanceof HTMLElement && (target.isContentEditable || ["INPUT", "SELECT", "TEXTAREA"].includes(target.tagName)) && !["checkbox", "radio", "button"].includes(/** @type {any} */ (target).type);

/** @param {Editor} editor @param {KeyboardEvent} event */
export function handleKey(editor, event) {
  const target = /** @type {HTMLElement} */ (event.target);
  if (event.defaultPrevented || editor.state.dialog || (target !== document.body && !editor.element.contains(target))) return;
  if (isField(target)) return;
  const onControl = target.closest("button, a, select, input, [role=slider], [role=menuitem]") !== null;
  if (editor.tool.keydown?.(event)) return event.preventDefault();
  const done = event.ctrlKey || event.metaKey ? withControl(editor, event) : plain(editor, event, onControl);
  if (done) event.preventDefault();
}

/** @param {Editor} editor @param {KeyboardEvent} event */
export function handleKeyUp(editor, event) {
  if (event.key !== " " || !editor.stage?.spaceHeld) return;
  const { stage } = editor;
  stage.spaceHeld = false;
  if (event.timeStamp - stage.spaceSince < 250 && !stage.spaceUsed) editor.playback.toggle();
  editor.store.schedule();
}

/** @param {Editor} editor @param {KeyboardEvent} event */
function withControl(editor, event) {
  const pans = /** @type {Record<string, [number, number]>} */ ({ ArrowLeft: [64, 0], ArrowRight: [-64, 0], ArrowUp: [0, 64], ArrowDown: [0, -64] });
  if (pans[event.key]) {
    editor.view.pan(...pans[event.key]);
    editor.store.schedule();
    return true;
  }
  const key = event.key.toLowerCase();
  if (key === "z") event.shiftKey ? editor.redo() : editor.undo();
  else if (key === "y") editor.redo();
  else if (key === "d") copySelected(editor);
  else return false;
  return true;
}

/** @param {Editor} editor @param {KeyboardEvent} event @param {boolean} onControl whether a button has the focus */
function plain(editor, event, onControl) {
  const { key } = event;
  if (event.altKey) return false;
  if (key === "Enter") return onControl || onStroke(event) ? false : (enter(editor, event.shiftKey), true);
  if (key === "Escape") return escape(editor);
  if (key === "Delete" || key === "Backspace") return editor.state.selected || editor.state.region || editor.state.cameraMove ? (editor.removeSelected(), true) : false;
  if (key.startsWith("Arrow")) return /** @type {HTMLElement} */ (event.target).closest("[role=slider]") ? slide(editor, key) : arrow(editor, event);
  if (key === "Home") return editor.goTo(0), true;
  if (key === "End") return editor.goTo(editor.lastFrame()), true;
  if (key === " ") return onControl || onStroke(event) ? false : space(editor, event);
  return editor.state.letters ? letter(editor, key) : false;
}

/** @param {KeyboardEvent} event */
const onStroke = (event) => /** @type {HTMLElement} */ (event.target).closest("[data-stroke], [data-region], [data-joint]") !== null;

/** @param {Editor} editor @param {boolean} waits whether it is to be queued */
function enter(editor, waits) {
  const { live } = editor;
  const { render } = editor.state;
  if (!render || waits) live.render();
  else if (live.canSteer()) live.steer();
  else if (live.canQueue()) live.render();
  else if (render.paused) live.pause();
  else editor.say("It is being rendered. Change a stroke, and Enter uses it from the next frame on.");
}

/** @param {Editor} editor */
function escape(editor) {
  const { render, selected, region, cameraMove, playing } = editor.state;
  if (editor.stage?.gesture) editor.stage.abandon();
  else if (editor.state.compare) setComparison(editor, null);
  else if (render) editor.live.stop();
  else if (playing) editor.playback.rewind();
  else if (selected || region || cameraMove) editor.select(null);
  else return false;
  return true;
}

/** @param {Editor} editor @param {KeyboardEvent} event */
function arrow(editor, event) {
  const [dx, dy] = /** @type {Record<string, [number, number]>} */ ({ ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] })[event.key];
  const stroke = editor.selectedStroke();
  const { point } = editor.state;
  if (stroke && (point !== null || stroke.kind === "hold")) {
    const by = event.shiftKey ? 10 : 1;
    const index = point ?? 0;
    const [x, y] = stroke.points[index];
    const next = index === 0 ? movedBy(stroke, dx * by, dy * by) : withPoint(stroke, index, [x + dx * by, y + dy * by]);
    if (next.points.every((place) => editor.view.clampToReach(place).every((value, i) => value === place[i]))) editor.replaceStroke(next, `nudge ${stroke.id}`);
    return true;
  }
  if (dy) return false;
  editor.goTo(editor.state.frame + dx);
  return true;
}

/** On the strip of frames, whatever is selected. @param {Editor} editor @param {string} key */
function slide(editor, key) {
  editor.goTo(editor.state.frame + (key === "ArrowRight" || key === "ArrowUp" ? 1 : -1));
  return true;
}

/** @param {Editor} editor @param {KeyboardEvent} event */
function space(editor, event) {
  const { stage } = editor;
  if (!stage) return false;
  if (!event.repeat) Object.assign(stage, { spaceHeld: true, spaceSince: event.timeStamp, spaceUsed: false });
  editor.store.schedule();
  return true;
}

/** @param {Editor} editor @param {string} key */
function letter(editor, key) {
  const tool = TOOL_KEYS[key.toLowerCase()];
  if (tool) editor.setTool(tool);
  else if (key.toLowerCase() === "f") editor.toggleFlow();
  else if (key.toLowerCase() === "t") editor.tracks.toggle();
  else if (key.toLowerCase() === "p") editor.live.pause();
  else if (key.toLowerCase() === "a") editor.state.compare ? nextMode(editor) : compare(editor);
  else if (key === "?") editor.store.set({ dialog: "help" });
  else if (key === "[" || key === "]") shift(editor, key === "[" ? -1 : 1);
  else if (key === "+" || key === "=") zoom(editor, 1.25);
  else if (key === "-" || key === "_") zoom(editor, 0.8);
  else if (key === "0") zoom(editor, null);
  else if (key === "1") zoom(editor, 0);
  else return false;
  return true;
}

/** @param {Editor} editor @param {number} by frames */
function shift(editor, by) {
  const stroke = editor.selectedStroke();
  const move = cameraOf(editor.document).find((one) => one.id === editor.state.cameraMove);
  const { num_frames: numFrames } = editor.document.settings;
  if (stroke) editor.replaceStroke(shifted(stroke, by, numFrames));
  else if (move) editor.putCamera(draggedMove(move, "all", by, numFrames - 1, true));
  else editor.say("Select a stroke or a move of the camera first; [ and ] shift it in time.");
}

/** Null fits the picture, 0 shows its actual pixels. @param {Editor} editor @param {number | null} factor */
export function zoom(editor, factor) {
  if (factor === null) editor.view.fit();
  else if (factor === 0) editor.view.zoomTo(1);
  else editor.view.zoom(factor);
  editor.store.schedule();
}
