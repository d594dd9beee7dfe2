/**
 * The editor's talk with the server: flow that follows the pen, renders, and saving.
 *
 * @typedef {import("./editor.js").Editor} Editor
 * @typedef {import("./document.js").StudioDocument} StudioDocument
 * @typedef {{id: string, parent: string | null, at: number, num_frames: number, fps: number, strokes: any[], regions: string | null,
 *     settings: any, state: "queued" | "rendering" | "done" | "stopped" | "failed", frames: number, size: "working" | "output",
 *     seconds: number | null, name: string | null, star: boolean, created: number, why: string | null, continuable: boolean, endless: boolean, best_of: string | null,
 *     camera: import("./camera.js").SentMove[], score: {mean: number | null, strokes: (number | null)[]} | null}} Node
 * @typedef {{node: string, first: number, total: number, index: number, step: number, steps: number, ahead: number, seconds: number[],
 *     begun: number, frameStarted: number, stopping: boolean, enlarging: boolean, paused: boolean, steering: boolean, endless: boolean,
 *     ready: boolean, base: string, rev: number}} Render
 *     `index` is the frame being made, of `first` to `total`
 * @typedef {import("./geometry.js").Point} Point
 * @typedef {{kind: "new" | "branch" | "continue" | "none", at: number, parent: string | null, why: string}} Plan
 */
import { cameraOf, cameraToServer } from "./camera.js";
import { documentToSheet } from "./document.js";
import { decodeFlow, flowPicture } from "./flow.js";
import { newId } from "./strokes.js";
import { keepHistory } from "./storage.js";
import { branchTo, titleOf } from "./versions.js";

const FLOW_INTERVAL_MS = 33;
const PULL_INTERVAL_MS = 33;
const SAVE_AFTER_MS = 1000;
const KEEP_AFTER_MS = 300;
const RETRY_SAVE_MS = 8000;
const MEDIAN_OF = 5;

const DEFAULTS = { kind: "move", start_frame: 0, easing: "linear", strength: 1, rotate: 0, scale: 1 };
const FIELDS = ["points", "frames", "end_frame", "region", "radius", "handles", ...Object.keys(DEFAULTS)];

/** A form in which equal strokes and cameras are equal texts. @param {{strokes: any[], camera: import("./camera.js").SentMove[]}} drawn */
const canonical = ({ strokes, camera }) =>
  JSON.stringify([strokes.map((stroke) => ({ ...DEFAULTS, ...stroke })).map((stroke) => FIELDS.map((name) => stroke[name])), camera]);

export class Live {
  /** @param {Editor} editor @param {import("./transport.js").SessionTransport} transport */
  constructor(editor, transport) {
    this.editor = editor;
    this.transport = transport;
    this.rev = 0;
    this.flowSent = 0;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.flowTimer = undefined;
    this.flowWanted = 0;
    /** @type {{document: StudioDocument, sheet: ReturnType<typeof documentToSheet> & {camera: import("./camera.js").SentMove[]}} | null} */
    this.lastSheet = null;
    /** @type {Map<string, string | null>} keys of the server by the content of regions */
    this.regionKeys = new Map();
    /** @type {Map<number, (string | null)[]>} the strokes of requests, by rev */
    this.requestIds = new Map();
    /** @type {Map<number, (answer: any) => void>} */
    this.waiting = new Map();
    this.savedRev = 0;
    this.documentRev = 0;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.saveTimer = undefined;
    this.saveDue = Infinity; // when it ends, in ms
    this.isSaving = false;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.keepTimer = undefined;
    /** @type {Record<string, any[]>} the regions of the page by their key */
    this.regionSets = {};
    /** @type {{inputs: any[], plan: Plan} | null} */
    this.lastPlan = null;
    /** @type {{start: Point | null, to: Point, down: boolean} | null} the pen that pulls a thing; `start` until it is sent */
    this.pen = null;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.pullTimer = undefined;
  }

  start() {
    this.transport.connect({
      connection: (state, why) => {
        const lost = { type: "refused", why: "The connection was lost before the answer came. Try again." };
        if (state !== "open") for (const rev of [...this.waiting.keys()]) this.answer(rev, lost);
        this.editor.connectionChanged(state, why);
      },
      message: (header, payload) => this.message(header, payload),
    });
  }

  /** @param {any} header @param {Uint8Array} payload */
  message(header, payload) {
    switch (header.type) {
      case "hello":
        return this.hello(header);
      case "model":
        this.editor.modelChanged(header.model);
        return this.requestFlow();
      case "tree":
        return this.editor.setNodes(header.nodes);
      case "flow":
        return this.flow(header, payload);
      case "warnings":
        return this.warned(header);
      case "queued":
        return this.queued(header);
      case "begun":
        return this.begin(header.node, 0, false);
      case "paused":
        return this.update(header.node, { paused: header.paused, frameStarted: performance.now() });
      case "progress":
        return this.update(header.node, { index: header.index, step: header.step, steps: header.steps, ahead: 0 });
      case "frame":
        return this.frame(header, payload);
      case "done":
      case "stopped":
      case "failed":
        return this.ended(header);
      case "steered":
        return this.steered(header);
      case "mask":
      case "joints":
      case "proposed":
        return this.answer(header.rev, { ...header, payload });
      case "refused":
        return this.refused(header);
      case "error":
        return this.editor.serverError(header);
    }
  }

  /** @param {any} hello */
  hello(hello) {
    this.editor.limitsChanged(hello.limits);
    this.editor.modelChanged(hello.model);
    this.editor.setNodes(hello.session.nodes);
    const { render } = this.editor.store.state;
    const going = hello.rendering?.node ?? null;
    if (render && render.node !== going) {
      this.editor.store.set({ render: null, passing: null });
      if (render.endless) this.editor.endlessEnded(render.node);
    }
    if (going && !render) this.begin(going, 0);
    if (going) this.update(going, { paused: hello.rendering.paused, ready: true });
    this.regionKeys.clear(); // a new server may not have them
    if (this.savedRev < this.documentRev) this.saveSoon(0);
    this.requestFlow();
  }

  /** The strokes and regions of the document, with the stroke that is being drawn. */
  sheet() {
    const { history, shapes, store } = this.editor;
    const { pending } = store.state;
    const document = pending ? { ...history.present, strokes: [...history.present.strokes, pending] } : history.present;
    if (pending || this.lastSheet?.document !== document) {
      const camera = cameraToServer(cameraOf(document), document.settings.num_frames);
      this.lastSheet = { document, sheet: { ...documentToSheet(document, shapes.contains, shapes.anchor), camera } };
    }
    return this.lastSheet.sheet;
  }

  /** Called when a mask was decoded, which may change what is rigid or held. */
  sheetChanged() {
    this.lastSheet = null;
    this.requestFlow();
  }

  /** Puts the regions to the server unless it has them. @param {any[]} regions @returns {Promise<string | null>} */
  async regionsKey(regions) {
    if (!regions.length) return null;
    const text = JSON.stringify(regions);
    const known = this.regionKeys.get(text);
    if (known !== undefined) return known;
    const { present } = this.editor.history;
    const { regions: key } = await this.transport.putRegions(regions);
    this.regionKeys.set(text, key);
    if (key) this.regionSets[key] = present.regions;
    return key;
  }

  // Flow

  /** Asks for the flow of the shown frame: at most 30 times a second, always with the newest strokes. */
  requestFlow() {
    this.flowWanted++;
    this.editor.store.set({ flowStale: true });
    if (this.flowTimer !== undefined) return;
    const wait = Math.max(0, this.flowSent + FLOW_INTERVAL_MS - performance.now());
    this.flowTimer = setTimeout(() => {
      this.flowTimer = undefined;
      this.sendFlow();
    }, wait);
  }

  async sendFlow() {
    const { editor } = this;
    const { frame, node, model, connection, playing, showFlow } = editor.store.state;
    const { settings } = editor.history.present;
    const { strokes, ids, regions, camera } = this.sheet();
    if (!showFlow || playing || connection !== "open" || model?.state !== "ready" || !model.has_flow) return;
    const current = node ? editor.store.state.nodes.get(node) : undefined;
    if ((!strokes.length && !camera.length) || frame >= settings.num_frames - 1 || (frame > 0 && !current?.continuable)) {
      return editor.store.set({ flow: null, refusal: null, ...(strokes.length ? {} : { warnings: [] }) });
    }
    const wanted = this.flowWanted;
    let key = null;
    try {
      key = frame > 0 ? current?.regions ?? null : await this.regionsKey(regions);
    } catch (error) {
      return editor.setRefusal({ id: null, why: /** @type {Error} */ (error).message });
    }
    this.flowSent = performance.now();
    const rev = ++this.rev;
    this.remember(rev, ids);
    editor.store.set({ flowRev: rev });
    this.transport.send({
      type: "flow", rev, node: frame > 0 ? node : null, frame, strokes, num_frames: settings.num_frames, size: settings.work, regions: key, camera,
    }); // prettier-ignore
    if (wanted !== this.flowWanted) this.requestFlow();
  }

  /** @param {number} rev @param {(string | null)[]} ids */
  remember(rev, ids) {
    this.requestIds.set(rev, ids);
    for (const old of this.requestIds.keys()) if (old < rev - 200) this.requestIds.delete(old);
  }

  /** @param {any} header @param {Uint8Array} payload */
  flow(header, payload) {
    const { state } = this.editor.store;
    if (state.flow && header.rev <= state.flow.rev) return; // an older one that came late
    const buffer = payload.slice().buffer;
    const { width, height } = this.editor.picture;
    const flow = decodeFlow(buffer, header.h, header.w, width / header.width, height / header.height);
    const picture = flowPicture(flow, this.editor.fullSpeed());
    this.editor.store.set({
      flow: { rev: header.rev, node: header.frame > 0 ? header.node : null, frame: header.frame, flow, picture, ms: header.ms },
      flowStale: header.rev < state.flowRev,
      refusal: null,
    });
    this.warned(header);
  }

  /** Keeps what the server says against strokes. Only strokes that are drawn to the end count. @param {any} header */
  warned({ rev, warnings }) {
    const ids = this.requestIds.get(rev) ?? [];
    const known = (warnings ?? []).map((/** @type {any} */ one) => ({ text: one.message, ids: one.strokes.map((/** @type {number} */ index) => ids[index] ?? "pending") }));
    if (known.length || this.editor.store.state.warnings.length) this.editor.store.set({ warnings: known });
  }

  // Renders

  /** What the render button would do. @returns {Plan} */
  plan() {
    const { state } = this.editor.store;
    const inputs = [this.editor.history.present, state.nodes, state.node, state.frame, state.model, this.sheet(), this.regionKeys.size];
    if (!this.lastPlan || inputs.some((input, i) => input !== this.lastPlan?.inputs[i])) this.lastPlan = { inputs, plan: this.newPlan() };
    return this.lastPlan.plan;
  }

  /** @returns {Plan} */
  newPlan() {
    const { state } = this.editor.store;
    const { settings, regions: drawn } = this.editor.history.present;
    const current = state.node ? state.nodes.get(state.node) : undefined;
    const { strokes, regions, camera } = this.sheet();
    /** @type {Plan} */
    const fresh = { kind: "new", at: 0, parent: null, why: "" };
    if (!strokes.length && !camera.length) return { ...fresh, kind: "none", why: "Draw a move first: press M, then drag on the picture." };
    if (!current) return fresh;
    const sameTree = this.sameTree(current, regions, drawn);
    const sameStrokes = canonical({ strokes, camera }) === canonical(current) && settings.num_frames === current.num_frames;
    if (sameTree && sameStrokes) {
      const complete = current.at + current.frames >= current.num_frames - 1;
      if (complete) return { ...fresh, kind: "none", why: "Nothing has changed since this version was rendered." };
      if (state.frame === 0 || state.frame >= current.at + current.frames) {
        if (current.continuable) return { kind: "continue", at: current.at, parent: current.parent, why: "" };
      }
    }
    const last = current.at + current.frames;
    if (sameTree && state.frame > 0 && state.frame <= last && state.frame < settings.num_frames - 1 && current.continuable) {
      const parent = this.editor.frames.owner(state.nodes, current.id, state.frame);
      return { kind: "branch", at: state.frame, parent, why: "" };
    }
    return fresh;
  }

  /** Whether a child of the node would have the regions and settings of the document. @param {Node} node @param {any[]} regions @param {any[]} drawn */
  sameTree(node, regions, drawn) {
    const { settings } = this.editor.history.present;
    const key = regions.length ? this.regionKeys.get(JSON.stringify(regions)) : null;
    const known = node.regions ? this.regionSets[node.regions] : [];
    const isKnown = known && JSON.stringify(known) === JSON.stringify(drawn);
    if (key !== node.regions && !isKnown) return false;
    const { defaults } = this.editor.store.state.model ?? {};
    const same = /** @param {number | null} wanted @param {number} made @param {number} standard */ (wanted, made, standard) => (wanted ?? standard ?? made) === made;
    return (
      settings.seed === node.settings.seed &&
      same(settings.steps, node.settings.steps, defaults?.steps) &&
      same(settings.guidance, node.settings.guidance, defaults?.guidance) &&
      (settings.work === null || settings.work === Math.min(node.settings.width, node.settings.height))
    );
  }

  /** Renders, or lets it wait for the render that is under way. */
  async render() {
    const { editor } = this;
    if (editor.state.compare) return editor.say("Close the comparison first (Esc).");
    const { state } = editor.store;
    const waits = state.render !== null;
    if (state.connection !== "open") return editor.say("Not connected. Your strokes are kept; render when the connection is back.");
    if (state.model?.state !== "ready") return editor.say("The model is still loading. You can go on drawing.");
    const plan = this.plan();
    if (plan.kind === "none" || (waits && plan.kind === "continue")) return editor.say(plan.why || "It is being rendered.");
    editor.playback.rewind();
    const id = plan.kind === "continue" ? /** @type {string} */ (state.node) : newId();
    const rev = ++this.rev;
    if (!waits) this.begin(id, rev);
    await this.askForFrames(id, rev, plan, false);
  }

  /** @param {string} node @param {number} rev @param {{parent: string | null, at: number, kind?: string}} place where it begins @param {boolean} endless */
  async askForFrames(node, rev, { parent, at, kind = parent ? "branch" : "new" }, endless) {
    const { settings } = this.editor.history.present;
    const { strokes, ids, regions, camera } = this.sheet();
    const { seed, steps, guidance, work, size, num_frames, fps } = settings;
    this.remember(rev, ids);
    let key = null;
    try {
      key = kind === "new" ? await this.regionsKey(regions) : null;
    } catch (error) {
      if (this.editor.store.state.render?.node === node) this.editor.store.set({ render: null });
      return this.editor.setRefusal({ id: null, why: /** @type {Error} */ (error).message });
    }
    this.transport.send({
      type: "render", rev, node, parent, at, strokes, num_frames, fps, regions: key, camera,
      settings: parent ? null : { seed, steps, guidance, size: work, output: "image" }, preview: size === "preview", ...(endless ? { endless } : {}),
    }); // prettier-ignore
  }

  /** @param {any} header */
  queued(header) {
    const { render } = this.editor.store.state;
    if (render?.node === header.node) {
      this.update(header.node, { ahead: header.ahead, ready: true });
      return this.sendPull();
    }
    this.editor.say(header.waiting > 1 ? `It waits in the queue, with ${header.waiting} before it.` : "It is rendered next.");
  }

  /** @param {string} node @param {number} rev */
  begin(node, rev, follow = true) {
    const { settings } = this.editor.history.present;
    const known = this.editor.store.state.nodes.get(node);
    const index = known ? known.at + known.frames + 1 : (rev ? this.plan().at : 0) + 1;
    this.editor.store.set({
      refusal: null,
      message: null, // it would hide the progress
      render: {
        node, rev, first: index, total: (known?.num_frames ?? settings.num_frames) - 1, index, step: 0, steps: 0, ahead: 0, seconds: [],
        begun: performance.now(), frameStarted: performance.now(), stopping: false, enlarging: false, paused: false, steering: false,
        endless: known?.endless ?? false, ready: rev === 0, base: "",
      },
      follow: follow || (this.editor.store.state.follow && this.editor.store.state.node === node),
    }); // prettier-ignore
  }

  /** @param {string} node @param {Partial<Render>} changes */
  update(node, changes) {
    const { render } = this.editor.store.state;
    if (render && render.node === node) this.editor.store.set({ render: { ...render, ...changes } });
  }

  /** @param {any} header @param {Uint8Array} payload */
  async frame(header, payload) {
    const { editor } = this;
    if (header.kept === false) return this.passing(header, payload);
    const blob = new Blob([payload.slice()], { type: "image/webp" });
    editor.frames.put(header.node, header.index, blob);
    await editor.frames.get(header.node, header.index);
    editor.frameArrived(header);
    const { render } = editor.store.state;
    if (!render || (render.node !== header.node && !render.enlarging)) return;
    const seconds = [...render.seconds, header.seconds].slice(-MEDIAN_OF);
    editor.store.set({ render: { ...render, index: header.index + 1, step: 0, seconds, ahead: 0, frameStarted: performance.now() } });
  }

  /** A frame of an endless render that is shown, and not kept. @param {any} header @param {Uint8Array} payload */
  async passing(header, payload) {
    const bitmap = await createImageBitmap(new Blob([payload.slice()], { type: "image/webp" }));
    this.editor.store.state.passing?.bitmap.close();
    this.editor.store.set({ passing: { node: header.node, index: header.index, bitmap } });
    this.update(header.node, { index: header.index + 1, step: 0, frameStarted: performance.now() });
  }

  /** @param {any} header */
  ended(header) {
    const { render } = this.editor.store.state;
    if (header.why === "steered") return; // its child goes on
    if (render && (render.node === header.node || render.enlarging)) this.editor.store.set({ render: null });
    else if (header.type === "stopped" && header.why === "canceled") this.editor.say("Taken out of the queue.");
    this.editor.renderEnded(header, render);
    this.requestFlow();
  }

  /** @param {any} header */
  steered(header) {
    const { render, node } = this.editor.store.state;
    if (render) this.editor.store.set({ render: { ...render, node: header.child, stopping: false, steering: false, paused: false, ready: true } });
    if (node === header.node) this.editor.store.set({ node: header.child });
    this.editor.say(`The new strokes act from frame ${header.frame} on.`);
    this.sendPull();
    this.documentChanged();
  }

  stop() {
    const { render } = this.editor.store.state;
    if (!render) return;
    this.pen = null;
    this.editor.store.set({ render: { ...render, stopping: true } });
    this.transport.send({ type: "cancel", node: render.node });
  }

  steer() {
    const { render } = this.editor.store.state;
    if (!render || render.enlarging) return;
    const { strokes, ids, camera } = this.sheet();
    const rev = ++this.rev;
    this.remember(rev, ids);
    this.update(render.node, { steering: true, base: canonical({ strokes, camera }) });
    const { num_frames } = this.editor.history.present.settings;
    this.transport.send({ type: "steer", rev, node: render.node, strokes, camera, num_frames: render.endless ? num_frames : null });
  }

  /** Whether the version that is shown is being rendered, with other strokes than those that are drawn. */
  canSteer() {
    const { render, nodes, node: shown } = this.editor.store.state;
    const node = render && nodes.get(render.node);
    if (!render || !node || node.id !== shown || render.enlarging || render.steering) return false;
    const { strokes, regions, camera } = this.sheet();
    const { present } = this.editor.history;
    const drawn = canonical({ strokes, camera });
    // what was pulled is among the strokes of an endless render
    const made = render.endless ? render.base || drawn : canonical(node);
    return strokes.length + camera.length > 0 && this.sameTree(node, regions, present.regions) && drawn !== made;
  }

  /** Whether there is something to render after what is being rendered. */
  canQueue() {
    const { render, node } = this.editor.store.state;
    if (!render || render.endless) return false;
    const { kind } = this.plan();
    return kind === "new" || (kind === "branch" && (this.canSteer() || node !== render.node));
  }

  /** Lets the render rest after the frame that is being made, or go on. */
  pause() {
    const { render } = this.editor.store.state;
    if (!render || render.enlarging || render.stopping) return;
    this.transport.send({ type: "pause", rev: ++this.rev, node: render.node, paused: !render.paused });
  }

  /** Ends the render of a version, or takes it out of the queue. @param {string} node */
  cancel(node) {
    if (this.editor.store.state.render?.node === node) this.stop();
    else this.transport.send({ type: "cancel", node });
  }

  /** Renders a version with other seeds. @param {string} node @param {number} number */
  best(node, number) {
    const ids = Array.from({ length: number }, newId);
    const { render, nodes } = this.editor.store.state;
    if (!render) this.begin(ids[0], 0, false);
    if (!render) this.update(ids[0], { total: (nodes.get(node)?.num_frames ?? 2) - 1 });
    this.transport.send({ type: "best", rev: ++this.rev, node, ids });
  }

  // Endless renders

  /**
   * The pen that pulls a thing has moved. The first pull begins an endless render at the shown frame.
   *
   * @param {Point | null} start where it took hold of the thing @param {Point | null} to null where it was last @param {boolean} down
   */
  pull(start, to, down) {
    if (!start && !this.pen) return;
    if (start && !this.beginEndless()) return;
    this.pen = { start: start ?? this.pen?.start ?? null, to: to ?? this.pen?.to ?? [0, 0], down };
    if (!down || start) return this.sendPull();
    this.pullTimer ??= setTimeout(() => this.sendPull(), PULL_INTERVAL_MS);
  }

  sendPull() {
    clearTimeout(this.pullTimer);
    this.pullTimer = undefined;
    const { render } = this.editor.store.state;
    if (!this.pen || !render?.endless || !render.ready) return;
    this.transport.send({ type: "pull", rev: ++this.rev, node: render.node, ...this.pen });
    this.pen = this.pen.down ? { ...this.pen, start: null } : null;
  }

  /** Whether an endless render is under way, now or soon. */
  beginEndless() {
    const { editor } = this;
    const { state } = editor.store;
    if (state.render?.endless) {
      if (this.canSteer()) this.steer();
      return !state.render.stopping;
    }
    if (state.render) return editor.say("Another render is under way. Stop it first (Esc)."), false;
    if (state.connection !== "open" || state.model?.state !== "ready") return editor.say("The model is still loading. Try again in a moment."), false;
    const { strokes, regions, camera } = this.sheet();
    const current = state.node ? state.nodes.get(state.node) : undefined;
    const branches = current && state.frame > 0 && current.continuable && this.sameTree(current, regions, editor.history.present.regions);
    const parent = branches ? editor.frames.owner(state.nodes, current.id, state.frame) : null;
    const at = parent ? state.frame : 0;
    const [id, rev] = [newId(), ++this.rev];
    this.begin(id, rev);
    this.update(id, { endless: true, index: at + 1, first: at + 1, base: canonical({ strokes, camera }) });
    this.askForFrames(id, rev, { parent, at }, true);
    return true;
  }

  /** Makes the frames of the shown version at the picture's own size. */
  enlarge() {
    const { node, render } = this.editor.store.state;
    if (!node || render) return;
    const rev = ++this.rev;
    this.begin(node, rev);
    const begun = this.editor.store.state.render;
    if (begun) this.editor.store.set({ render: { ...begun, index: 1, first: 1, enlarging: true }, follow: false });
    this.transport.send({ type: "enlarge", rev, node });
  }

  // Questions with one answer

  /** @param {object} message @returns {Promise<any>} the answer, or a refusal */
  ask(message) {
    const rev = ++this.rev;
    return new Promise((resolve) => {
      this.waiting.set(rev, resolve);
      if (!this.transport.send({ ...message, rev })) this.answer(rev, { type: "refused", why: "Not connected. Try again when the connection is back." });
    });
  }

  /** @param {number} rev @param {any} answer */
  answer(rev, answer) {
    this.waiting.get(rev)?.(answer);
    this.waiting.delete(rev);
  }

  /** @param {any} header */
  refused(header) {
    if (this.waiting.has(header.rev)) return this.answer(header.rev, header);
    const { render } = this.editor.store.state;
    if (header.code === "unknown-regions") {
      this.regionKeys.clear();
      if (header.of === "flow") return this.requestFlow();
    }
    if (render && render.rev === header.rev) this.editor.store.set({ render: null });
    if (header.of === "pull") return; // the render has just ended
    if (header.of === "steer" && render) this.update(render.node, { steering: false });
    if (header.of === "best" && render && !this.editor.store.state.nodes.has(render.node)) this.editor.store.set({ render: null });
    if (header.of === "flow" && header.rev < this.editor.store.state.flowRev) return; // about strokes that have changed since
    const ids = this.requestIds.get(header.rev) ?? [];
    const { regions } = this.editor.history.present;
    const id = header.stroke != null ? ids[header.stroke] ?? null : header.region != null ? regions[header.region]?.id ?? null : null;
    this.editor.setRefusal({ id: id === "pending" ? null : id, why: header.why });
  }

  // Saving

  /** Nothing older than a second is lost in a crash, also while one draws on without a pause. */
  documentChanged() {
    this.documentRev++;
    this.saveSoon(SAVE_AFTER_MS);
    this.keepTimer ??= setTimeout(() => this.keep(), KEEP_AFTER_MS);
  }

  /** Keeps the history in the browser. */
  keep() {
    clearTimeout(this.keepTimer);
    this.keepTimer = undefined;
    const { past, present, future } = this.editor.history;
    const { node, frame } = this.editor.store.state;
    keepHistory(this.transport.session, { node, frame, past, present, future, rev: this.documentRev, changed: Date.now() });
  }

  /** Saves after this time, unless it will be sooner. @param {number} wait in milliseconds */
  saveSoon(wait, saved = /** @type {import("./editor.js").State["saved"]} */ ("saving")) {
    this.editor.store.set({ saved });
    const due = performance.now() + wait;
    if (due >= this.saveDue) return;
    clearTimeout(this.saveTimer);
    this.saveDue = due;
    this.saveTimer = setTimeout(() => this.save(), wait);
  }

  async save() {
    clearTimeout(this.saveTimer);
    this.saveDue = Infinity;
    if (this.isSaving) return; // it looks again when it has ended
    this.isSaving = true;
    const rev = this.documentRev;
    const { node, frame, nodes } = this.editor.store.state;
    const used = new Set([...nodes.values()].map((one) => one.regions));
    const sets = Object.fromEntries(Object.entries(this.regionSets).filter(([key]) => used.has(key)));
    try {
      await this.transport.save({ version: 1, draft: this.editor.history.present, node, frame, region_sets: sets }, rev);
      this.savedRev = Math.max(this.savedRev, rev);
      if (this.savedRev === this.documentRev) this.editor.store.set({ saved: "saved" });
      else this.saveSoon(SAVE_AFTER_MS);
    } catch (error) {
      await this.saveFailed(/** @type {import("./transport.js").ApiError} */ (error));
    } finally {
      this.isSaving = false;
    }
  }

  /** @param {import("./transport.js").ApiError} error */
  async saveFailed(error) {
    if (error.status === 409) {
      const session = await this.transport.state().catch(() => null);
      if (!session) return;
      this.documentRev = Math.max(this.documentRev, session.document_rev) + 1;
      return this.saveSoon(0);
    }
    this.saveSoon(RETRY_SAVE_MS, error.status === 507 ? "disk" : "unsaved");
  }

  destroy() {
    clearTimeout(this.flowTimer);
    clearTimeout(this.saveTimer);
    this.isSaving = false; // what is on its way may be older
    if (this.savedRev < this.documentRev) this.save();
    this.keep();
    this.transport.close();
  }
}
