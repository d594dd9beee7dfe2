/**
 * The stage: paints the shown frame and the flow, each on a canvas of its own, and turns pointers, wheel and pinches into gestures of the
 * tool and moves of the view.
 *
 * @typedef {import("./geometry.js").Point} Point
 * @typedef {import("./editor.js").Editor} Editor
 * @typedef {{stage: Point, picture: Point, time: number, type: string, alt: boolean, shift: boolean, count: number}} Pen
 *     one place of the pointer: on the stage in CSS pixels, on the picture in its pixels, when in milliseconds, with what
 *     ("mouse", "pen", "touch"), and which click in a row
 */
import { halves, paintComparison, setComparison } from "./compare.js";
import { distance } from "./geometry.js";
import { drawArrows } from "./flow.js";

const DOUBLE_CLICK_MS = 400;
const PIXELS_SHOW_FROM = 6;

export class Stage {
  /** @param {Editor} editor @param {HTMLElement} element @param {HTMLCanvasElement} frame @param {HTMLCanvasElement} flow over the frame */
  constructor(editor, element, frame, flow) {
    this.editor = editor;
    this.element = element;
    this.frameSheet = new Sheet(frame);
    this.flowSheet = new Sheet(flow);
    /** @type {Map<number, Point>} fingers on the stage */
    this.touches = new Map();
    /** @type {"tool" | "pan" | "pinch" | "wipe" | null} */
    this.gesture = null;
    /** @type {number | null} the pointer of the gesture */
    this.pointer = null;
    /** @type {Point} */
    this.last = [0, 0];
    this.lastClick = { time: 0, at: /** @type {Point} */ ([0, 0]), count: 0 };
    this.spaceHeld = false;
    this.spaceSince = 0;
    this.spaceUsed = false;
    /** @type {ImageBitmap | null} what was painted last, until the next frame is decoded */
    this.painted = null;
    /** @type {(ImageBitmap | null)[]} the same of two that are compared */
    this.compared = [null, null];
    this.width = this.height = 1;
    this.paintScheduled = false;
    /** @type {AbortController} */
    this.ended = new AbortController();
    this.listen();
  }

  listen() {
    const { signal } = this.ended;
    /** @param {string} type @param {(event: any) => void} handler */
    const on = (type, handler) => this.element.addEventListener(type, handler, { signal, passive: false });
    on("pointerdown", (event) => this.down(event));
    on("pointermove", (event) => this.move(event));
    on("pointerup", (event) => this.up(event));
    on("pointercancel", (event) => this.cancelled(event));
    on("pointerleave", () => this.editor.hover(null));
    on("wheel", (event) => this.wheel(event));
    on("contextmenu", (event) => event.preventDefault());
    on("gesturestart", (event) => event.preventDefault()); // Safari would zoom the page
    this.observer = new ResizeObserver(() => this.resized());
    this.observer.observe(this.element);
    this.resized();
    this.forget = this.editor.store.listen(() => this.paint());
  }

  destroy() {
    this.ended.abort();
    this.observer?.disconnect();
    this.forget?.();
  }

  resized() {
    const { width, height } = this.element.getBoundingClientRect();
    if (!width || !height) return;
    Object.assign(this, { width, height });
    const [dx, dy] = halves(this.editor, width, height);
    this.editor.view.resize(dx || width, dy || height);
    for (const sheet of [this.frameSheet, this.flowSheet]) sheet.resize(width, height);
    this.paint();
    this.editor.store.schedule();
  }

  /** @param {PointerEvent} event @returns {Pen} */
  pen(event) {
    const box = this.element.getBoundingClientRect();
    const stage = /** @type {Point} */ ([event.clientX - box.left, event.clientY - box.top]);
    return {
      stage,
      picture: this.editor.view.toPicture(stage),
      time: event.timeStamp,
      type: event.pointerType,
      alt: event.altKey,
      shift: event.shiftKey,
      count: this.lastClick.count,
    };
  }

  /** @param {PointerEvent} event */
  down(event) {
    if (/** @type {Element} */ (event.target).closest("button, input, a, [data-no-draw]")) return;
    const pen = this.pen(event);
    if (event.pointerType === "touch") {
      this.touches.set(event.pointerId, pen.stage);
      if (this.touches.size === 2) return this.startPinch();
    }
    if (this.gesture) return;
    this.element.focus({ preventScroll: true });
    event.preventDefault();
    const pans = event.button === 1 || (event.button === 0 && this.spaceHeld);
    if (!pans && event.button !== 0) return;
    const again = event.timeStamp - this.lastClick.time < DOUBLE_CLICK_MS && distance(this.lastClick.at, pen.stage) < 8;
    this.lastClick = { time: event.timeStamp, at: pen.stage, count: again ? this.lastClick.count + 1 : 1 };
    this.element.setPointerCapture(event.pointerId);
    this.pointer = event.pointerId;
    this.last = pen.stage;
    const { compare } = this.editor.state;
    this.gesture = pans || (compare && compare.mode !== "wipe") ? "pan" : compare ? "wipe" : "tool";
    if (pans) this.spaceUsed = true;
    if (this.gesture === "wipe") this.wipe(pen.stage);
    if (this.gesture === "tool") this.editor.beginGesture({ ...pen, count: this.lastClick.count });
  }

  /** @param {PointerEvent} event */
  move(event) {
    const pen = this.pen(event);
    if (this.touches.has(event.pointerId)) {
      if (this.gesture === "pinch") return this.pinch(event.pointerId, pen.stage);
      this.touches.set(event.pointerId, pen.stage);
    }
    if (this.pointer !== event.pointerId || !this.gesture) {
      if (event.pointerType !== "touch" && !this.editor.state.compare) this.editor.hover(pen);
      return;
    }
    if (this.gesture === "wipe") return this.wipe(pen.stage);
    if (this.gesture === "pan") {
      this.editor.view.pan(pen.stage[0] - this.last[0], pen.stage[1] - this.last[1]);
      this.last = pen.stage;
      return this.editor.store.schedule();
    }
    const events = event.getCoalescedEvents?.() ?? [];
    this.editor.continueGesture((events.length ? events : [event]).map((one) => this.pen(one)));
  }

  /** @param {PointerEvent} event */
  up(event) {
    this.touches.delete(event.pointerId);
    if (this.gesture === "pinch") {
      if (this.touches.size === 0) this.gesture = null;
      return;
    }
    if (this.pointer !== event.pointerId) return;
    const wasTool = this.gesture === "tool";
    this.gesture = this.pointer = null;
    if (wasTool) this.editor.endGesture(this.pen(event));
  }

  /** @param {PointerEvent} event */
  cancelled(event) {
    this.touches.delete(event.pointerId);
    if (this.pointer === event.pointerId) this.abandon();
    if (this.gesture === "pinch" && this.touches.size === 0) this.gesture = null;
  }

  /** Ends the gesture of the tool without effect. */
  abandon() {
    const wasTool = this.gesture === "tool";
    this.gesture = this.pointer = null;
    if (wasTool) this.editor.cancelGesture();
  }

  /** @param {Point} at */
  wipe([x]) {
    const { compare } = this.editor.state;
    if (compare) setComparison(this.editor, { ...compare, wipe: Math.min(1, Math.max(0, x / this.width)) });
  }

  startPinch() {
    this.abandon();
    this.gesture = "pinch";
  }

  /** @param {number} pointer @param {Point} at */
  pinch(pointer, at) {
    const [a, b] = [...this.touches.values()];
    this.touches.set(pointer, at);
    const [nextA, nextB] = [...this.touches.values()];
    if (!b || !nextB) return;
    const middle = /** @param {Point} p @param {Point} q @returns {Point} */ (p, q) => [(p[0] + q[0]) / 2, (p[1] + q[1]) / 2];
    const [before, after] = [middle(a, b), middle(nextA, nextB)];
    this.editor.view.pan(after[0] - before[0], after[1] - before[1]);
    this.editor.view.zoom(distance(nextA, nextB) / Math.max(distance(a, b), 1), after);
    this.editor.store.schedule();
  }

  /** @param {WheelEvent} event */
  wheel(event) {
    if (window.frameElement && !document.hasFocus()) return; // a notebook scrolls on past the editor
    event.preventDefault();
    const unit = event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 400 : 1;
    if (event.shiftKey) {
      this.editor.view.pan(-(event.deltaX || event.deltaY) * unit, 0);
    } else {
      const box = this.element.getBoundingClientRect();
      const speed = event.ctrlKey ? 0.01 : 0.0016; // browsers report a pinch on a trackpad as a wheel with Ctrl
      this.editor.view.zoom(Math.exp(-event.deltaY * unit * speed), [event.clientX - box.left, event.clientY - box.top]);
    }
    this.editor.store.schedule();
  }

  paint() {
    if (this.paintScheduled) return;
    this.paintScheduled = true;
    queueMicrotask(() => {
      this.paintScheduled = false;
      this.paintNow();
    });
  }

  /** The frame is painted only if it or the view has changed: scaling a large one takes longer than all the rest. */
  paintNow() {
    const { editor, frameSheet, flowSheet } = this;
    const { view } = editor;
    const [x, y] = view.fromFrame([0, 0]);
    const [w, h] = [view.picture.width * view.scale, view.picture.height * view.scale];
    const { compare } = editor.state;
    const bitmaps = compare ? this.comparedBitmaps() : [this.currentBitmap()];
    frameSheet.paint([...bitmaps, compare?.mode, compare?.wipe, x, y, w, h], (context) => {
      const draw = (/** @type {ImageBitmap} */ bitmap) => {
        context.imageSmoothingEnabled = (w / bitmap.width) * frameSheet.ratio < PIXELS_SHOW_FROM;
        context.imageSmoothingQuality = "high";
        context.drawImage(bitmap, x, y, w, h);
      };
      const [a, b] = bitmaps;
      if (a && b && compare) paintComparison(this, context, compare, () => draw(a), () => draw(b));
      else if (a) draw(a);
    });
    const shown = bitmaps[0] && editor.shownFlow();
    flowSheet.canvas.classList.toggle("stale", shown?.stale === true);
    flowSheet.paint([shown?.flow, x, y, w, h], (context) => {
      if (!shown) return;
      context.save();
      context.beginPath();
      context.rect(x, y, w, h);
      context.clip();
      context.drawImage(shown.picture, x, y, w, h);
      drawArrows(context, shown.flow, view, editor.fullSpeed());
      context.restore();
    });
  }

  /** The shown frame, or the one painted before it until it is decoded. */
  currentBitmap() {
    const { editor } = this;
    const { frame, passing } = editor.store.state;
    if (passing) return passing.bitmap;
    const owner = editor.frames.owner(editor.store.state.nodes, editor.store.state.node, frame);
    const bitmap = editor.frames.ready(owner, frame);
    if (bitmap) this.painted = bitmap;
    else editor.frames.get(owner, frame).then((loaded) => loaded && this.paint());
    return this.painted ?? editor.frames.picture;
  }

  /** The shown frame of both versions that are compared; of the shorter one its last. */
  comparedBitmaps() {
    const { editor } = this;
    this.compared = editor.shownNodes().map((node, i) => {
      const frame = Math.min(editor.state.frame, editor.lastFrameOf(node));
      const owner = editor.frames.owner(editor.state.nodes, node, frame);
      const bitmap = editor.frames.ready(owner, frame);
      if (!bitmap) editor.frames.get(owner, frame).then((loaded) => loaded && this.paint());
      return bitmap ?? this.compared[i] ?? editor.frames.picture;
    });
    return this.compared;
  }
}

/** A canvas of the size of the stage. */
class Sheet {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    this.ratio = 1; // pixels of the screen for one of CSS
    this.scale = [1, 1]; // the same, with the canvas rounded to whole ones
    /** @type {any[]} what the painted picture depends on */
    this.painted = [];
  }

  /** @param {number} width @param {number} height in CSS pixels */
  resize(width, height) {
    this.ratio = window.devicePixelRatio || 1;
    const [w, h] = [Math.round(width * this.ratio), Math.round(height * this.ratio)];
    this.scale = [w / width, h / height];
    if (this.canvas.width === w && this.canvas.height === h) return;
    Object.assign(this.canvas, { width: w, height: h });
    this.painted = [];
  }

  /** Paints unless nothing has changed since. @param {any[]} inputs @param {(context: CanvasRenderingContext2D) => void} paint in CSS pixels */
  paint(inputs, paint) {
    if (inputs.length === this.painted.length && inputs.every((input, i) => input === this.painted[i])) return;
    this.painted = inputs;
    const { context, canvas } = this;
    const [xScale, yScale] = this.scale;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.setTransform(xScale, 0, 0, yScale, 0, 0);
    paint(context);
  }
}
