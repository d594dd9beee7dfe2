/**
 * What the line below the picture says: one sentence a person would say, and what can be done.
 *
 * @typedef {{tone: "quiet" | "busy" | "good" | "warn" | "bad", text: string, actions: {label: string, run: () => void}[], progress: number | null}} Status
 */
import { LOOKING } from "./tools/region.js";
import { queueOf, titleOf } from "./versions.js";

/** @param {import("./editor.js").Editor} editor @returns {Status} */
export function statusOf(editor) {
  return connectionStatus(editor) ?? modelStatus(editor) ?? renderStatus(editor) ?? documentStatus(editor) ?? quietStatus(editor);
}

/** @param {Status["tone"]} tone @param {string} text @param {Status["actions"]} [actions] @param {number | null} [progress] @returns {Status} */
const status = (tone, text, actions = [], progress = null) => ({ tone, text, actions, progress });

/** @param {import("./editor.js").Editor} editor */
function connectionStatus(editor) {
  const { connection, connectionWhy, model } = editor.state;
  const again = { label: "Try again", run: () => editor.transport.reconnect() };
  const leave = editor.onLeave ? [{ label: "All pictures", run: editor.onLeave }] : [];
  switch (connection) {
    case "offline":
      return status("warn", "No connection. Your drawing is kept here, and sent when the connection is back.", [again]);
    case "connecting":
      return model ? status("warn", "Connecting again …", [again]) : null;
    case "elsewhere":
      return status("warn", "This picture was opened in another window, which has it now.", [{ label: "Use it here", run: () => editor.transport.reconnect() }]);
    case "expired":
      return status("bad", "This session has ended, and the server no longer has it. What you see can still be looked at.", leave);
    case "refused":
      return status("bad", connectionWhy || "The server does not know this page. Open the address that mcdiff studio printed.", []);
    default:
      return null;
  }
}

/** @param {import("./editor.js").Editor} editor */
function modelStatus(editor) {
  const { model, message, connection } = editor.state;
  if (model?.state === "failed") return status("bad", `The model could not be loaded: ${model.why}`);
  if (connection === "open" && model?.state === "loading" && !message) return status("busy", "The model is loading. You can draw already; the flow and Render come when it is there.", [], -1);
  return null;
}

/** Seconds left, from the median time of the last frames. @param {import("./live.js").Render} render */
export function secondsLeft(render) {
  if (!render.seconds.length) return null;
  const sorted = [...render.seconds].sort((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)];
  const spent = (performance.now() - render.frameStarted) / 1000;
  return Math.max(0, median * (render.total - render.index + 1) - Math.min(spent, median));
}

/** @param {number | null} seconds */
function leftInWords(seconds) {
  if (seconds === null) return "";
  if (seconds < 1.5) return ", a second left";
  return seconds < 90 ? `, ${Math.round(seconds)} s left` : `, ${Math.round(seconds / 60)} minutes left`;
}

/** @param {import("./editor.js").Editor} editor */
function renderStatus(editor) {
  const { render, failure, finished, message } = editor.state;
  if (render) {
    const share = Math.min(1, (render.index - render.first + (render.steps ? render.step / render.steps : 0)) / Math.max(1, render.total - render.first + 1));
    if (render.stopping) return status("busy", "Stopping after this step …", [], share);
    if (message) return status("busy", message.text, [], share);
    if (render.endless) return status("busy", endlessText(editor, render), [], -1);
    if (render.steering) return status("busy", `The changed strokes act as soon as frame ${Math.min(render.index, render.total)} is made …`, [], share);
    if (render.paused) return status("warn", `Paused after frame ${Math.min(render.index, render.total) - 1} of ${render.total}.`, [{ label: "Go on", run: () => editor.live.pause() }], share);
    if (render.ahead > 0) return status("busy", `Waiting: ${render.ahead} ${render.ahead === 1 ? "render is" : "renders are"} taking turns with yours.`, [], share);
    if (render.index > render.total) return status("busy", "Finishing …", [], 1);
    const other = editor.state.node === render.node || !editor.state.nodes.has(render.node) ? "" : `${titleOf(editor.state.nodes, render.node)}: `;
    const what = `${other}${render.enlarging ? "Making full-size frame" : other ? "rendering frame" : "Rendering frame"}`;
    const waiting = queueOf(editor.state).length;
    return status("busy", `${what} ${render.index} of ${render.total}${leftInWords(secondsLeft(render))}${waiting ? `, ${waiting} more in the queue` : ""}`, [], share);
  }
  if (failure) {
    const smaller = { label: "Try smaller", run: () => tryAgain(editor, true) };
    const again = { label: "Try again", run: () => tryAgain(editor, false) };
    const close = { label: "Dismiss", run: () => editor.store.set({ failure: null }) };
    return status("bad", `The render failed: ${failure.why} Your strokes are kept.`, [again, smaller, close]);
  }
  if (message) return null;
  const node = finished && editor.state.nodes.get(finished.node);
  if (finished && node) {
    const full = node.size === "working" ? [{ label: "Make full size", run: () => editor.live.enlarge() }] : [];
    const made = `${finished.frames === 1 ? "One frame" : `${finished.frames} frames`} in ${finished.seconds.toFixed(finished.seconds < 10 ? 1 : 0)} s.`;
    const [doubt] = editor.doubts();
    if (doubt) return status("good", `${made} ${doubt.text}`, [showStroke(editor, doubt.ids[0]), ...full]);
    return status("good", `${made} Change the strokes, or go on from any frame.`, full);
  }
  return null;
}

/** @param {import("./editor.js").Editor} editor @param {import("./live.js").Render} render */
function endlessText(editor, render) {
  const { passing, limits } = editor.state;
  if (passing) return `Frame ${passing.index}. The first ${(limits?.frames ?? 256) - 1} are kept.`;
  if (render.index === render.first) return "Drag a thing in the picture: frames are made while you do.";
  return `Frame ${render.index - 1}. Drag on for more; Done keeps them.`;
}

/** @param {import("./editor.js").Editor} editor @param {string | null} id */
function showStroke(editor, id) {
  const index = editor.document.strokes.findIndex((stroke) => stroke.id === id);
  const run = () => (editor.select(id), editor.store.set({ tab: "strokes" }));
  return { label: `Show stroke ${index + 1}`, run };
}

/** @param {import("./editor.js").Editor} editor @param {boolean} smaller */
function tryAgain(editor, smaller) {
  editor.store.set({ failure: null });
  if (smaller) {
    const { area, multiple } = editor.state.model ?? { area: 128 * 128, multiple: 8 };
    const working = editor.document.settings.work ?? Math.sqrt(area);
    editor.setSettings({ work: Math.max(multiple, Math.floor((working * 0.7) / multiple) * multiple), size: "preview" });
  }
  editor.live.render();
}

/** @param {import("./editor.js").Editor} editor */
function documentStatus(editor) {
  const { refusal, message, saved, busy } = editor.state;
  if (busy) return status("busy", `${busy === LOOKING ? busy : `Making the file: ${busy}`} …`, [], -1);
  if (refusal) {
    const index = editor.document.strokes.findIndex((stroke) => stroke.id === refusal.id);
    if (index < 0) return status("warn", refusal.why);
    const name = refusal.why.startsWith("Stroke ") ? "" : `Stroke ${index + 1}: `;
    return status("warn", `${name}${refusal.why}`, [showStroke(editor, refusal.id)]);
  }
  if (saved === "disk") return status("bad", "The disk is full: nothing new is saved. Remove old sessions, or export this one.", [{ label: "Save now", run: () => editor.live.save() }]);
  if (message) return status("quiet", message.text);
  return null;
}

/** @param {number} number @param {string} what */
const counted = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;

/** @param {import("./editor.js").Editor} editor */
function quietStatus(editor) {
  const { strokes, camera = [] } = editor.document;
  const { frame, model } = editor.state;
  if (model?.state === "ready" && !model.has_flow) return status("quiet", "This model has no flow completion, so the motion is not shown before it is rendered.");
  if (strokes.length > 40) return status("warn", `${strokes.length} strokes: with more than 40 the flow gets worse. Fewer, longer ones work better.`);
  const [doubt, ...others] = editor.doubts();
  if (doubt) return status("warn", `${doubt.text}${others.length ? ` ${others.length} more in the list.` : ""}`, [showStroke(editor, doubt.ids[0])]);
  if (frame > 0) return status("quiet", `New strokes begin at this frame, ${frame}. Render goes on from here as a new version.`);
  const drawn = [strokes.length && counted(strokes.length, "stroke"), camera.length && counted(camera.length, "move")].filter(Boolean);
  if (drawn.length && editor.live.plan().kind === "new") return status("quiet", `${drawn.join(" and ")}${camera.length ? " of the camera" : ""}. Press Render, or Enter, to see it move.`);
  return status("quiet", drawn.length ? "Pick a frame to go on from there, or change the strokes." : editor.tool.hint);
}
