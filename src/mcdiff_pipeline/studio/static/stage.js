/**
 * The stage: paints the shown frame and the flow on a canvas, and turns pointers, wheel and pinches into gestures of the
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
  /** @param {Editor} editor @param {HTMLElement} element @param {HTMLCanvasElement} canvas */
  constructor(editor, element, canvas) {
    this.editor = editor;
    this.element = element;
    this.canvas = canvas;
    this.context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
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
    const ratio = window.devicePixelRatio || 1;
    const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.canvas.width !== w || this.canvas.height !== h) Object.assign(this.canvas, { width: w, height: h });
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

  paintNow() {
    const { context, canvas, editor } = this;
    const { view } = editor;
    const { width, height } = this;
    context.setTransform(canvas.width / width, 0, 0, canvas.height / height, 0, 0);
    context.clearRect(0, 0, width, height);
    const [x, y] = view.fromFrame([0, 0]);
    const [w, h] = [view.picture.width * view.scale, view.picture.height * view.scale];
    const draw = (/** @type {ImageBitmap} */ bitmap) => {
      context.imageSmoothingEnabled = (w / bitmap.width) * (canvas.width / width) < PIXELS_SHOW_FROM;
      context.imageSmoothingQuality = "high";
      context.drawImage(bitmap, x, y, w, h);
    };
    if (editor.state.compare) {
      const [a, b] = this.comparedBitmaps();
      if (a && b) paintComparison(this, [a, b], draw);
      return;
    }
    const bitmap = this.currentBitmap();
    if (!bitmap) return;
    draw(bitmap);
    const shown = editor.shownFlow();
    if (!shown) return;
    context.save();
    context.beginPath();
    context.rect(x, y, w, h);
    context.clip();
    context.globalAlpha = shown.stale ? 0.4 : 1;
    context.imageSmoothingEnabled = true;
    context.drawImage(shown.picture, x, y, w, h);
    drawArrows(context, shown.flow, view, editor.fullSpeed());
    context.restore();
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
