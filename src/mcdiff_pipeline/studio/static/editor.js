/**
 * The editor of one session. `mount(element, transport)` shows it in any element; `transport` is a `SessionTransport` or
 * anything with its methods, so that a notebook can bring its own.
 *
 * @typedef {import("./geometry.js").Point} Point
 * @typedef {import("./strokes.js").Stroke} Stroke
 * @typedef {import("./document.js").StudioDocument} StudioDocument
 * @typedef {import("./live.js").Node} Node
 * @typedef {import("./stage.js").Pen} Pen
 * @typedef {import("./transport.js").Connection} Connection
 * @typedef {{rev: number, node: string | null, frame: number, flow: import("./flow.js").Flow, picture: OffscreenCanvas, ms: number}} ShownFlow
 * @typedef {{
 *   name: string, connection: Connection, connectionWhy: string, model: any, limits: any, saved: "saved" | "saving" | "unsaved" | "disk",
 *   nodes: Map<string, Node>, node: string | null, frame: number, follow: boolean, playing: boolean,
 *   compare: import("./compare.js").Comparison | null, passing: {node: string, index: number, bitmap: ImageBitmap} | null,
 *   render: import("./live.js").Render | null, failure: {node: string, why: string} | null, finished: {node: string, frames: number, seconds: number} | null,
 *   flow: ShownFlow | null, flowRev: number, flowStale: boolean, showFlow: boolean, refusal: {id: string | null, why: string} | null,
 *   warnings: {ids: string[], text: string}[],
 *   tool: string, selected: string | null, point: number | null, region: string | null, pending: Stroke | null, pointer: Pen | null,
 *   message: {text: string, until: number} | null, dialog: string | null, tab: string, panel: boolean, timeline: boolean,
 *   record: boolean, stay: boolean, regionMode: "click" | "brush" | "polygon", adding: boolean, brush: number, busy: string | null, letters: boolean,
 *   tracks: import("./tracks.js").FoundTracks | null, showTracks: boolean, cameraMove: string | null,
 * }} State
 */
import { cameraFromServer, cameraOf, cameraOnBranch, newCameraMove, seenBy } from "./camera.js";
import { History, MAX_REGIONS, addStroke, documentFromSheet, emptyDocument, freeName, putRegion, removeRegion, removeStrokes, replaceStroke, withSettings, DEFAULT_SETTINGS } from "./document.js";
import { FULL_SPEED } from "./flow.js";
import { FrameStore } from "./frames.js";
import { setComparison } from "./compare.js";
import { handleKey, handleKeyUp } from "./keys.js";
import { Live } from "./live.js";
import { Playback } from "./playback.js";
import { Shapes } from "./shapes.js";
import { keptHistory, preference, setPreference } from "./storage.js";
import { Store } from "./store.js";
import { fromSheet, newId, retimed, span, withoutPoint } from "./strokes.js";
import { makeTools } from "./tools/tools.js";
import { Tracks } from "./tracks.js";
import { App } from "./panels/app.js";
import { html, render } from "./vendor/preact-htm.js";
import { branchTo, lastOf } from "./versions.js";
import { View } from "./view.js";

const MESSAGE_MS = 6000;

/** @returns {State} */
function firstState() {
  return {
    name: "", connection: "connecting", connectionWhy: "", model: null, limits: null, saved: "saved",
    nodes: new Map(), node: null, frame: 0, follow: false, playing: false, compare: null, passing: null,
    render: null, failure: null, finished: null,
    flow: null, flowRev: 0, flowStale: false, showFlow: preference("flow", "on") === "on", refusal: null, warnings: [],
    tool: "move", selected: null, point: null, region: null, pending: null, pointer: null,
    message: null, dialog: null, tab: "timeline", panel: preference("panel", "on") === "on", timeline: true,
    record: preference("record", "off") === "on", stay: false, regionMode: "click", adding: true, brush: 28, busy: null,
    letters: preference("letters", "on") === "on",
    cameraMove: null, tracks: null, showTracks: preference("tracks", "off") === "on",
  }; // prettier-ignore
}

export class Editor {
  /**
   * @param {HTMLElement} element
   * @param {import("./transport.js").SessionTransport} transport
   * @param {{session: any, picture: ImageBitmap, history: History, rev: number, onLeave?: () => void}} opened
   */
  constructor(element, transport, { session, picture, history, rev, onLeave }) {
    this.element = element;
    this.transport = transport;
    this.onLeave = onLeave;
    this.picture = session.picture;
    this.history = history;
    /** @type {Store<State>} */
    this.store = new Store({ ...firstState(), name: session.name });
    this.view = new View(session.picture.width, session.picture.height);
    this.frames = new FrameStore((node, index) => this.fetchFrame(node, index));
    this.frames.picture = picture;
    this.shapes = new Shapes(session.picture, () => {
      this.live.sheetChanged();
      this.store.schedule();
    });
    this.live = new Live(this, transport);
    this.live.documentRev = this.live.savedRev = rev;
    this.playback = new Playback(this);
    this.tools = makeTools(this);
    this.tracks = new Tracks(this);
    /** @type {import("./stage.js").Stage | null} set when the stage is on the page */
    this.stage = null;
    this.ended = new AbortController();
  }

  get state() {
    return this.store.state;
  }

  get document() {
    return this.history.present;
  }

  get tool() {
    return this.tools[this.state.tool];
  }

  start() {
    const { signal } = this.ended;
    document.addEventListener("keydown", (event) => handleKey(this, event), { signal });
    document.addEventListener("keyup", (event) => handleKeyUp(this, event), { signal });
    // Handlers know what was drawn last, and keys may come faster than that: what is newer is drawn before they run.
    this.element.addEventListener("keydown", () => this.store.scheduled && this.draw(), { signal, capture: true });
    window.addEventListener("pagehide", () => this.live.keep(), { signal });
    this.store.listen(() => this.aim());
    this.store.listen(() => this.draw());
    this.store.listen(() => this.tracks.update());
    this.draw();
    this.live.start();
  }

  draw() {
    if (!this.ended.signal.aborted) render(html`<${App} editor=${this} />`, this.element);
  }

  destroy() {
    this.ended.abort();
    this.playback.pause();
    this.live.destroy();
    render(null, this.element);
  }

  // The document

  /**
   * Changes the document.
   *
   * @param {StudioDocument} next
   * @param {string | null} [label] of an edit that goes on until `commit`, as one step of undo
   */
  edit(next, label = null) {
    if (next === this.document) return;
    this.history.change(next, label);
    this.changed();
  }

  commit() {
    this.history.commit();
  }

  changed() {
    const { selected, point, region, cameraMove } = this.state;
    const stroke = this.document.strokes.find((one) => one.id === selected);
    this.store.set({
      selected: stroke ? selected : null,
      point: stroke && point !== null && point < stroke.points.length ? point : null,
      region: this.document.regions.some((one) => one.id === region) ? region : null,
      cameraMove: cameraOf(this.document).some((one) => one.id === cameraMove) ? cameraMove : null,
      finished: null,
    });
    this.live.documentChanged();
    this.live.requestFlow();
  }

  undo() {
    this.stage?.abandon();
    if (this.history.undo()) this.changed();
    else this.say("There is nothing to undo.");
  }

  redo() {
    if (this.history.redo()) this.changed();
    else this.say("There is nothing to redo.");
  }

  /** @param {Stroke} stroke */
  addStroke(stroke) {
    this.edit(addStroke(this.document, stroke));
    this.select(stroke.id);
  }

  /** @param {Stroke} stroke @param {string | null} [label] */
  replaceStroke(stroke, label = null) {
    this.edit(replaceStroke(this.document, stroke), label);
  }

  /** @param {string} id */
  removeStroke(id) {
    this.edit(removeStrokes(this.document, id));
  }

  /** @param {import("./document.js").Region} region */
  putRegion(region) {
    this.edit(putRegion(this.document, region));
    this.selectRegion(region.id);
  }

  /** @param {string} id */
  removeRegion(id) {
    this.edit(removeRegion(this.document, id));
  }

  /** A new move of the camera, from the shown frame to the end of the clip. @param {import("./camera.js").CameraKind} kind */
  addCamera(kind) {
    const last = this.document.settings.num_frames - 1;
    this.putCamera(newCameraMove(kind, this.picture, this.state.frame < last ? this.state.frame : 0, last));
  }

  /** @param {import("./camera.js").CameraMove} move added, or in the place of the one with its id @param {string | null} [label] */
  putCamera(move, label = null) {
    const moves = cameraOf(this.document);
    if (moves.includes(move)) return;
    const known = moves.some((one) => one.id === move.id);
    const camera = known ? moves.map((one) => (one.id === move.id ? move : one)) : [...moves, move];
    this.edit({ ...this.document, camera }, label);
    this.selectCamera(move.id);
  }

  /** @param {string} id */
  removeCamera(id) {
    this.edit({ ...this.document, camera: cameraOf(this.document).filter((move) => move.id !== id) });
  }

  /** Removes what is selected: a point, else the stroke, the region or the move of the camera. */
  removeSelected() {
    const { selected, point, region, cameraMove } = this.state;
    const stroke = this.selectedStroke();
    if (stroke && point !== null && stroke.kind === "move" && stroke.points.length > 2) {
      this.replaceStroke(/** @type {Stroke} */ (withoutPoint(stroke, point)));
      this.store.set({ point: null });
    } else if (selected) this.removeStroke(selected);
    else if (region) this.removeRegion(region);
    else if (cameraMove) this.removeCamera(cameraMove);
  }

  /** @param {Partial<import("./document.js").Settings>} settings */
  setSettings(settings) {
    const before = this.document.settings.num_frames;
    let next = withSettings(this.document, settings);
    const after = next.settings.num_frames;
    // what lasted to the end of the clip goes on to do so
    if (after !== before) {
      const strokes = next.strokes.map((stroke) => {
        const [start, end] = span(stroke, before);
        const lasts = stroke.kind === "move" ? Math.abs(end - (before - 1)) < 1e-6 : false;
        return lasts && start < after - 1 ? retimed(stroke, start, after - 1) : stroke;
      });
      const camera = cameraOf(next).map((move) => (move.end === before - 1 && move.start < after - 1 ? { ...move, end: after - 1 } : move));
      next = { ...next, strokes, ...(camera.length ? { camera } : {}) };
    }
    this.edit(next);
  }

  selectedStroke() {
    return this.document.strokes.find((stroke) => stroke.id === this.state.selected) ?? null;
  }

  /** @param {string | null} id @param {number | null} [point] */
  select(id, point = null) {
    this.store.set({ selected: id, point, region: null, cameraMove: null });
  }

  /** @param {string | null} id */
  selectRegion(id) {
    this.store.set({ region: id, selected: null, point: null, cameraMove: null });
  }

  /** @param {string | null} id of a move of the camera */
  selectCamera(id) {
    this.store.set({ cameraMove: id, selected: null, point: null, region: null });
  }

  // Gestures

  /** @param {string} tool */
  setTool(tool) {
    this.stage?.abandon();
    if (this.state.compare) setComparison(this, null);
    if (tool !== this.state.tool) this.tool.leave?.();
    this.store.set({ tool, message: null });
  }

  /** @param {Pen} pen */
  beginGesture(pen) {
    this.playback.rewind();
    this.store.set({ pointer: pen });
    this.tool.down(pen);
  }

  /** @param {Pen[]} pens */
  continueGesture(pens) {
    this.store.set({ pointer: pens[pens.length - 1] });
    this.tool.move?.(pens);
  }

  /** @param {Pen} pen */
  endGesture(pen) {
    this.tool.up?.(pen);
  }

  cancelGesture() {
    this.tool.cancel?.();
    this.store.set({ pending: null });
  }

  /** @param {Pen | null} pen */
  hover(pen) {
    this.store.set({ pointer: pen });
    if (pen) this.tool.hover?.(pen);
  }

  // Frames

  /** @param {string} node @param {number} index */
  fetchFrame(node, index) {
    const size = this.state.nodes.get(node)?.size ?? "working";
    return this.transport.frame(node, index, size);
  }

  /** The version on the stage, or the two that are compared. @returns {(string | null)[]} */
  shownNodes() {
    const { compare, node } = this.state;
    return compare ? [compare.a, compare.b] : [node];
  }

  /** @param {string | null} node */
  lastFrameOf(node) {
    const known = node ? this.state.nodes.get(node) : undefined;
    return known ? lastOf(known) : 0;
  }

  /** The last frame there is of the shown version; of the longer one, if two are compared. */
  lastFrame() {
    return Math.max(...this.shownNodes().map((node) => this.lastFrameOf(node)));
  }

  /** @param {number} frame */
  ownerOf(frame) {
    return this.frames.owner(this.state.nodes, this.shownNodes()[0], Math.min(frame, this.lastFrameOf(this.shownNodes()[0])));
  }

  /** @param {number} frame */
  frameReady(frame) {
    return this.shownFrames(frame).every(([owner, index]) => this.frames.ready(owner, index) !== null);
  }

  /** What makes up a frame on the stage: of each version that is shown, who made it. @param {number} frame @returns {[string | null, number][]} */
  shownFrames(frame) {
    return this.shownNodes().map((node) => {
      const index = Math.min(frame, this.lastFrameOf(node));
      return [this.frames.owner(this.state.nodes, node, index), index];
    });
  }

  /** @param {number} frame */
  loadFrame(frame) {
    return Promise.all(this.shownFrames(frame).map(([owner, index]) => this.frames.get(owner, index)));
  }

  /** @param {number} frame */
  goTo(frame, follow = false) {
    const next = Math.min(Math.max(0, frame), this.lastFrame());
    if (this.state.playing) this.playback.pause();
    this.stage?.abandon();
    this.store.set({ frame: next, follow, refusal: null });
    this.live.requestFlow();
  }

  /** Shows a version with its strokes; undo brings back those that were there. @param {string} id */
  showNode(id) {
    const node = this.state.nodes.get(id);
    if (!node) return;
    if (this.state.compare) setComparison(this, null);
    const going = this.state.render?.node === id && !this.state.render.enlarging;
    if (id === this.state.node) return going ? this.goTo(this.lastFrame(), true) : undefined;
    this.playback.pause();
    this.takeStrokes(node);
    this.store.set({ node: id, frame: going ? lastOf(node) : 0, follow: going });
    this.live.documentChanged();
    this.live.requestFlow();
  }

  /** Makes the strokes of a version those that are edited. @param {Node} node */
  takeStrokes(node) {
    const regions = node.regions ? this.live.regionSets[node.regions] ?? this.document.regions : [];
    const stillIds = new Set(regions.filter((region) => region.still).map((region) => region.name));
    const strokes = node.strokes.filter((stroke) => !(stroke.kind === "hold" && stillIds.has(stroke.region))).map((stroke) => fromSheet(stroke, node.num_frames));
    this.edit({ ...this.document, strokes, regions, camera: cameraFromServer(node.camera), settings: { ...this.document.settings, num_frames: node.num_frames, fps: node.fps } });
  }

  /** @param {Node[]} list */
  setNodes(list) {
    const nodes = new Map(list.map((node) => [node.id, node]));
    let { node, frame } = this.state;
    if (node && !nodes.has(node)) node = null;
    let { compare } = this.state;
    if (compare && !(nodes.has(compare.a) && nodes.has(compare.b))) compare = null;
    this.store.set({ nodes, node, frame: node ? frame : 0, compare });
    if (frame > this.lastFrame()) this.store.set({ frame: this.lastFrame() });
  }

  /** @param {any} header of a frame that is decoded */
  frameArrived({ node, index, size }) {
    const known = this.state.nodes.get(node);
    if (!known) return;
    if (size === "working" || known.at + known.frames < index) {
      const nodes = new Map(this.state.nodes).set(node, { ...known, frames: Math.max(known.frames, index - known.at) });
      this.store.set({ nodes });
    }
    const { render: job } = this.state;
    const rendered = job !== null && job.node === node && !job.enlarging;
    if (rendered && this.state.follow) {
      const other = this.state.node !== node;
      this.store.set({ node, frame: index });
      if (other) this.live.documentChanged(); // a reload shows this version
    } else this.store.schedule();
  }

  /** @param {any} header @param {import("./live.js").Render | null} was */
  renderEnded(header, was) {
    const { follow } = this.state;
    if (!was || (was.node !== header.node && !was.enlarging)) return; // one that waited
    this.store.set({ passing: null });
    if (was.endless) return this.endlessEnded(header.node);
    if (header.type === "failed") return this.store.set({ failure: { node: header.node, why: header.why }, follow: false });
    if (header.enlarged || was?.enlarging) {
      const node = this.state.nodes.get(header.node);
      if (node && header.type === "done") this.store.set({ nodes: new Map(this.state.nodes).set(node.id, { ...node, size: "output" }) });
      return this.say(header.type === "done" ? "The frames now have full size." : "Stopped. The frames made so far have full size.");
    }
    this.store.set({ follow: false });
    if (header.type === "stopped") {
      if (header.why === "canceled") this.say(`Stopped. ${header.frames === 1 ? "The frame that is there is" : `${header.frames} frames are`} kept.`);
      return;
    }
    const seconds = was ? (performance.now() - was.begun) / 1000 : 0;
    this.store.set({ finished: { node: header.node, frames: was ? was.total - was.first + 1 : header.frames, seconds } });
    if (!follow || this.state.node !== header.node) return;
    this.store.set({ frame: was ? Math.max(0, was.first - 1) : 0 });
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) this.playback.play();
  }

  /** What was pulled is there as strokes. @param {string} id */
  endlessEnded(id) {
    const node = this.state.nodes.get(id);
    this.store.set({ follow: false });
    if (!node) return this.say("No frame was made, so nothing is kept.");
    this.takeStrokes(node);
    this.store.set({ node: id, frame: lastOf(node) });
    this.live.documentChanged();
    this.say(`${node.frames === 1 ? "One frame is" : `${node.frames} frames are`} kept, and what you pulled is there as strokes.`);
  }

  /** In a frame that a camera has moved, strokes lie where the scene is seen. */
  aim() {
    const { node, nodes, frame } = this.state;
    const branch = frame > 0 ? branchTo(nodes, node) : [];
    this.view.seen = branch.some(({ camera }) => camera.length) ? seenBy(cameraOnBranch(branch, frame), this.picture) : null;
  }

  // Flow

  fullSpeed() {
    return FULL_SPEED * Math.min(this.picture.width, this.picture.height);
  }

  /** What the stage paints: the flow belongs to the shown frame, or is not shown. */
  shownFlow() {
    const { flow, flowStale, showFlow, frame, node, playing, compare } = this.state;
    if (!showFlow || playing || compare || !flow || flow.frame !== frame || (frame > 0 && flow.node !== node)) return null;
    return { ...flow, stale: flowStale };
  }

  toggleFlow() {
    this.store.set({ showFlow: !this.state.showFlow });
    setPreference("flow", this.state.showFlow ? "on" : "off");
    this.live.requestFlow();
  }

  // What the server says

  /** @param {Connection} connection @param {string} [why] */
  connectionChanged(connection, why = "") {
    this.store.set({ connection, connectionWhy: why });
  }

  /** @param {any} model */
  modelChanged(model) {
    this.store.set({ model });
  }

  /** @param {any} limits */
  limitsChanged(limits) {
    this.store.set({ limits });
  }

  /** @param {{id: string | null, why: string}} refusal */
  setRefusal(refusal) {
    this.store.set({ refusal, flow: null });
  }

  /** What may not work as it is drawn; the server's sentences. @param {string} [id] of one stroke */
  doubts(id) {
    const known = new Set(this.document.strokes.map((stroke) => stroke.id));
    return this.state.warnings.filter(({ ids }) => (id ? ids.includes(id) : ids.length > 0) && ids.every((one) => known.has(one)));
  }

  /** @param {any} error */
  serverError({ code, why }) {
    if (code === "disk") this.store.set({ saved: "disk" });
    this.say(why);
  }

  /** A sentence in the line below the picture, for some seconds. @param {string} text */
  say(text) {
    const until = Date.now() + MESSAGE_MS;
    this.store.set({ message: { text, until } });
    setTimeout(() => {
      if (this.state.message?.until === until) this.store.set({ message: null });
    }, MESSAGE_MS);
  }

  // Files

  /** Saves what the server makes under a name. @param {string} file @param {string} name @param {string} label */
  async download(file, name, label) {
    this.store.set({ busy: label });
    try {
      const blob = await this.transport.download(file);
      saveBlob(blob, name);
      this.say(`${label} is saved as ${name}.`);
    } catch (error) {
      this.say(/** @type {Error} */ (error).message);
    }
    this.store.set({ busy: null });
  }

  /** Takes strokes and regions from a stroke sheet or a clip. @param {File} file */
  async importFile(file) {
    try {
      const { sheet } = await this.transport.importFile(file);
      this.edit({ ...documentFromSheet(sheet), settings: { ...this.document.settings, num_frames: sheet.num_frames, fps: sheet.fps ?? 8 } });
      this.say(`${file.name} is loaded. ${sheet.note || "Undo brings back what was there."}`);
    } catch (error) {
      this.say(/** @type {Error} */ (error).message);
    }
  }

  /** Adds a move in the middle of what is visible, for those who do not draw. */
  addMoveAtCenter() {
    const { width, height } = this.picture;
    const last = this.document.settings.num_frames - 1;
    const start = this.state.frame < last ? this.state.frame : 0;
    this.addStroke({ id: newId(), kind: "move", points: [[width * 0.4, height / 2], [width * 0.6, height / 2]], frames: [start, last] }); // prettier-ignore
    this.say("A move is in the middle of the picture. Its numbers can be changed in the list.");
  }

  /** Adds an outline in the middle of the picture, for those who do not draw. */
  addRegionAtCenter() {
    const { width, height } = this.picture;
    if (this.document.regions.length >= MAX_REGIONS) return this.say(`There is room for ${MAX_REGIONS} regions. Remove one first.`);
    this.goTo(0); // regions are those of the given picture
    const polygon = /** @type {Point[]} */ ([[0.4, 0.4], [0.6, 0.4], [0.6, 0.6], [0.4, 0.6]].map(([x, y]) => [width * x, height * y])); // prettier-ignore
    this.putRegion({ id: newId(), name: freeName(this.document, "Region"), polygon, rigid: false, order: null });
    this.say("A region is in the middle of the picture. Its corners can be changed in the list.");
  }
}

/** @param {Blob} blob @param {string} name */
export function saveBlob(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

/**
 * The first document of a session: what this browser kept if it is not older, else what the server has, else the strokes
 * that the picture came with.
 *
 * @param {any} session
 * @param {import("./storage.js").Kept | null} kept
 */
function firstHistory(session, kept) {
  const history = new History(session.document?.draft ?? (session.sheet ? documentFromSheet(session.sheet) : emptyDocument()));
  if (kept && kept.rev >= session.document_rev) Object.assign(history, { past: kept.past, present: kept.present, future: kept.future });
  history.present = { ...history.present, settings: { ...DEFAULT_SETTINGS, ...history.present.settings } };
  return { history, rev: Math.max(session.document_rev, kept?.rev ?? 0) };
}

/**
 * The version and the frame that were shown last, else the newest version.
 *
 * @param {any} session
 * @param {import("./storage.js").Kept | null} kept
 * @returns {{node: string | null, frame: number}}
 */
function firstShown(session, kept) {
  const newer = kept && kept.rev >= session.document_rev ? kept : session.document;
  const has = /** @param {string | null | undefined} id */ (id) => session.nodes.some((/** @type {Node} */ one) => one.id === id);
  if (has(newer?.node)) return { node: newer.node, frame: newer.frame ?? 0 };
  return { node: session.nodes.at(-1)?.id ?? null, frame: 0 };
}

/**
 * Opens the session of the transport in an element.
 *
 * @param {HTMLElement} element
 * @param {import("./transport.js").SessionTransport} transport
 * @param {{onLeave?: () => void, style?: string}} [options] `onLeave` is called when the user wants to open something else;
 *     `style` is the content of `studio.css` where that has no address
 * @returns {Promise<Editor>}
 */
export async function mount(element, transport, { onLeave, style } = {}) {
  addStyles(element, style);
  const [session, blob, kept] = await Promise.all([transport.state(), transport.picture(), keptHistory(transport.session)]);
  const picture = await createImageBitmap(blob);
  const { history, rev } = firstHistory(session, kept);
  const editor = new Editor(element, transport, { session, picture, history, rev: rev, onLeave });
  if (rev > session.document_rev) editor.live.savedRev = session.document_rev;
  editor.live.regionSets = session.document?.region_sets ?? {};
  const { node, frame } = firstShown(session, kept);
  editor.store.set({ node });
  editor.setNodes(session.nodes);
  editor.store.set({ frame: Math.min(frame, editor.lastFrame()) });
  editor.start();
  if (!session.document && session.sheet?.note) editor.say(session.sheet.note);
  return editor;
}

/** @param {HTMLElement} element @param {string} [style] */
function addStyles(element, style) {
  if (style !== undefined) return document.head.append(Object.assign(document.createElement("style"), { textContent: style }));
  const address = new URL("./studio.css", import.meta.url).href;
  const root = /** @type {Document | ShadowRoot} */ (element.getRootNode());
  if ([...root.querySelectorAll("link")].some((link) => link.href === address)) return;
  const link = Object.assign(document.createElement("link"), { rel: "stylesheet", href: address });
  (root instanceof Document ? root.head : root).append(link);
}
