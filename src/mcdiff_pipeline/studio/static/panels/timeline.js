/**
 * The timeline: the strip of frames, and below it a bar for each stroke and each move of the camera on the same axis. Bars
 * are dragged to shift it, their ends to retime it, their dots to retime a point; all of it snaps to whole frames.
 *
 * @typedef {import("../editor.js").Editor} Editor
 */
import { CAMERA_KINDS, cameraOf, draggedMove } from "../camera.js";
import { clamp } from "../geometry.js";
import { paint } from "./fields.js";
import { Icon } from "../icons.js";
import { strokeColor } from "../layer.js";
import { retimed, shifted, span, withTime } from "../strokes.js";
import { branchTo, titleOf } from "../versions.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "../vendor/preact-htm.js";

const LABEL_WIDTH = 92;
const SMALLEST_CELL = 10;
const LARGEST_CELL = 240;
const LARGEST_THUMB = 88;
const THUMB_WIDTH = 56;
const GROWS_BY = 16;

/** @param {{editor: Editor}} props */
export function Timeline({ editor }) {
  const root = useRef(/** @type {HTMLElement | null} */ (null));
  const [width, setWidth] = useState(800);
  useLayoutEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(entry.contentRect.width));
    observer.observe(/** @type {HTMLElement} */ (root.current));
    return () => observer.disconnect();
  }, []);
  const { document, state } = editor;
  const moves = cameraOf(document);
  const made = editor.lastFrame() + 1;
  // of an endless render the strip grows by many frames at a time, so that it is calm
  const count = Math.max(document.settings.num_frames, state.render?.endless ? GROWS_BY * Math.ceil((made + 1) / GROWS_BY) : made);
  const cell = clamp((width - LABEL_WIDTH - 16) / count, SMALLEST_CELL, LARGEST_CELL);
  const last = editor.lastFrame();
  return html`
    <section class="timeline" aria-label="Timeline">
      <div class="transport">
        <button class="icon-button" aria-label="First frame" title="First frame (Home)" disabled=${last < 1} onClick=${() => editor.goTo(0)}><${Icon} name="first" /></button>
        <button class="icon-button" aria-label="Frame before" title="Frame before (←)" disabled=${last < 1} onClick=${() => editor.goTo(state.frame - 1)}><${Icon} name="before" /></button>
        <button class="icon-button play" aria-label=${state.playing ? "Pause" : "Play"} title="Play and pause (Space)" disabled=${last < 1} onClick=${() => editor.playback.toggle()}><${Icon} name=${state.playing ? "pause" : "play"} /></button>
        <button class="icon-button" aria-label="Next frame" title="Next frame (→)" disabled=${last < 1} onClick=${() => editor.goTo(state.frame + 1)}><${Icon} name="after" /></button>
        <button class="icon-button" aria-label="Last frame" title="Last frame (End)" disabled=${last < 1} onClick=${() => editor.goTo(last)}><${Icon} name="last" /></button>
        <span class="time">${state.frame} <small>/ ${document.settings.num_frames - 1}</small></span>
      </div>
      <div class="tracks" ref=${root}>
        <div class="axis" ref=${sized(LABEL_WIDTH + count * cell + 8)}>
          <${Strip} editor=${editor} cell=${cell} count=${count} />
          <div class="bars">
            ${document.strokes.map((stroke, index) => html`<${StrokeBar} key=${stroke.id} editor=${editor} stroke=${stroke} index=${index} cell=${cell} />`)}
            ${moves.map((move, index) => html`<${CameraBar} key=${move.id} editor=${editor} move=${move} name=${`${CAMERA_KINDS[move.kind].title} ${index + 1}`} cell=${cell} />`)}
            ${!document.strokes.length && !moves.length && html`<p class="nothing">The timing of each stroke appears here.</p>`}
          </div>
          <div class="playhead" ref=${placed(LABEL_WIDTH + (state.frame + 0.5) * cell)}></div>
        </div>
      </div>
    </section>`;
}

/** @param {number} width */
const sized = (width) => (/** @type {HTMLElement | null} */ element) => element?.style.setProperty("width", `${width}px`);
/** @param {number} left @param {number} [width] */
const placed = (left, width) => (/** @type {HTMLElement | null} */ element) => {
  if (!element) return;
  element.style.left = `${left}px`;
  if (width !== undefined) element.style.width = `${width}px`;
};

/** @param {{editor: Editor, cell: number, count: number}} props */
function Strip({ editor, cell, count }) {
  const { state } = editor;
  const last = editor.lastFrame();
  const every = Math.max(1, Math.ceil(THUMB_WIDTH / cell));
  const element = useRef(/** @type {HTMLElement | null} */ (null));
  /** @param {PointerEvent} event */
  const scrub = (event) => {
    if (event.type === "pointermove" && !(event.buttons & 1)) return;
    const box = /** @type {HTMLElement} */ (element.current).getBoundingClientRect();
    const frame = clamp(Math.floor((event.clientX - box.left) / cell), 0, count - 1);
    if (event.type === "pointerdown") /** @type {HTMLElement} */ (element.current).setPointerCapture(event.pointerId);
    if (frame !== state.frame) editor.goTo(frame);
  };
  const cells = Array.from({ length: count }, (_, index) => index);
  const changes = new Map(branchTo(state.nodes, editor.shownNodes()[0]).filter((node) => node.at > 0).map((node) => [node.at, `${titleOf(state.nodes, node.id)}: from here on with changed strokes`]));
  const { render } = state;
  return html`
    <div class="strip-row">
      <span class="track-name">Frames</span>
      <div class="strip" ref=${element} onPointerDown=${scrub} onPointerMove=${scrub} role="slider" tabindex="0" aria-label="Frame" aria-valuemin="0" aria-valuemax=${last} aria-valuenow=${state.frame} aria-valuetext=${changes.has(state.frame) ? `${state.frame}. ${changes.get(state.frame)}` : `${state.frame}`}>
        ${cells.map((index) => {
          const made = index <= last;
          const making = render && !render.enlarging && index === render.index && state.node !== null;
          const mark = index % every === 0 || index === count - 1;
          return html`
            <div key=${index} class=${`frame-cell${index === state.frame ? " shown" : ""}${made ? " made" : ""}${making ? " making" : ""}`} ref=${sized(cell)}>
              ${made && index % every === 0 && html`<${Thumb} editor=${editor} index=${index} width=${Math.min(every * cell, LARGEST_THUMB)} wide=${every > 1} />`}
              ${mark && html`<span class="frame-number">${index}</span>`}
              ${changes.has(index) && html`<span class="change" title=${changes.get(index)}></span>`}
            </div>`;
        })}
      </div>
    </div>`;
}

/** @param {{editor: Editor, index: number, width: number, wide: boolean}} props `wide` ones reach over the cells that follow */
function Thumb({ editor, index, width, wide }) {
  const canvas = useRef(/** @type {HTMLCanvasElement | null} */ (null));
  const owner = editor.ownerOf(index);
  const { picture } = editor;
  useEffect(() => {
    let wanted = true;
    editor.frames.get(owner, index).then((bitmap) => {
      const context = canvas.current?.getContext("2d");
      if (!wanted || !bitmap || !context) return;
      const { width: w, height: h } = /** @type {HTMLCanvasElement} */ (canvas.current);
      const scale = Math.max(w / bitmap.width, h / bitmap.height); // fills the cell
      const [sw, sh] = [bitmap.width * scale, bitmap.height * scale];
      context.imageSmoothingQuality = "high";
      context.drawImage(bitmap, (w - sw) / 2, (h - sh) / 2, sw, sh);
    });
    return () => {
      wanted = false;
    };
  }, [owner, index, picture]);
  return html`<canvas class=${wide ? "thumb wide-thumb" : "thumb"} ref=${(/** @type {HTMLCanvasElement | null} */ element) => ((canvas.current = element), sized(width - 2)(element))} width="128" height="96" aria-hidden="true"></canvas>`;
}

/**
 * A bar on the time: it, its ends and its dots are dragged, or moved by arrow keys.
 *
 * @param {{
 *   editor: Editor, cell: number, name: string, kind: string, color: string, title: any, span: [number, number], tail?: number, dots?: number[], chosen?: number,
 *   selected: boolean, select: (part: string) => void, drag: (part: string) => (by: number, snap: boolean, label: string | null) => void,
 * }} props `tail` is where what stays after its end ends; `drag` takes hold of a part of what the bar is of
 */
function Bar({ editor, cell, name, kind, color, title, span: [start, end], tail = end, dots = [], chosen = -1, selected, select, drag }) {
  const last = editor.document.settings.num_frames - 1;
  /** @param {number} frame */
  const x = (frame) => (frame + 0.5) * cell;
  const grip = useRef(/** @type {{from: number, move: ReturnType<typeof drag>} | null} */ (null));
  /** @param {PointerEvent} event @param {string} part */
  const down = (event, part) => {
    event.stopPropagation();
    /** @type {HTMLElement} */ (event.currentTarget).setPointerCapture(event.pointerId);
    grip.current = { from: event.clientX, move: drag(part) };
    select(part);
  };
  /** @param {PointerEvent} event */
  const move = (event) => grip.current?.move((event.clientX - grip.current.from) / cell, !event.altKey, `time ${name}`);
  const up = () => {
    grip.current = null;
    editor.commit();
  };
  /** @param {KeyboardEvent} event */
  const key = (event) => {
    const by = /** @type {Record<string, number>} */ ({ ArrowLeft: -1, ArrowRight: 1 })[event.key];
    if (!by) return;
    event.preventDefault();
    event.stopPropagation();
    drag(event.shiftKey ? "end" : event.altKey ? "start" : "all")(by, true, null);
  };
  const grab = (/** @type {string} */ part) => ({ onPointerDown: (/** @type {any} */ event) => down(event, part), onPointerMove: move, onPointerUp: up, onPointerCancel: up });
  const row = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => void (selected && row.current?.scrollIntoView({ block: "nearest" })), [selected]);
  return html`
    <div ref=${row} class=${`bar-row${selected ? " selected" : ""}`}>
      <button class="track-name" tabindex="-1" aria-label=${kind === "camera" ? name : undefined} onClick=${() => select("all")}>${title}</button>
      <div class="track">
        <div class=${`time-bar ${kind}`} ref=${(/** @type {HTMLElement | null} */ element) => (placed(x(start), Math.max(cell / 2, x(tail) - x(start)))(element), element?.style.setProperty("--color", color))}
          role="slider" tabindex="0" aria-label=${`${name} in time. Arrows shift it, with Shift its end, with Alt its start`} aria-valuemin="0" aria-valuemax=${last} aria-valuenow=${Math.round(start)}
          aria-valuetext=${`frames ${Math.round(start * 10) / 10} to ${Math.round(end * 10) / 10}`} onKeyDown=${key} onFocus=${() => selected || select("all")} ...${grab("all")}></div>
        ${tail > end && html`<div class="stay-tail" ref=${placed(x(end), x(tail) - x(end))}></div>`}
        <div class="bar-end" ref=${placed(x(start) - 6)} ...${grab("start")}></div>
        <div class="bar-end" ref=${placed(x(end) - 6)} ...${grab("end")}></div>
        ${dots.map((frame, i) => html`<div key=${i} class=${`bar-dot${chosen === i + 1 ? " chosen" : ""}`} ref=${placed(x(frame) - 5)} ...${grab(`dot ${i + 1}`)}></div>`)}
      </div>
    </div>`;
}

/** @param {{editor: Editor, stroke: import("../strokes.js").Stroke, index: number, cell: number}} props */
function StrokeBar({ editor, stroke, index, cell }) {
  const numFrames = editor.document.settings.num_frames;
  const [start, end] = span(stroke, numFrames);
  const kind = stroke.kind === "hold" ? "Hold" : "Move";
  const selected = editor.state.selected === stroke.id;
  /** @param {string} part @returns {(by: number, snap: boolean, label: string | null) => void} */
  const drag = (part) => {
    const original = editor.document.strokes.find((one) => one.id === stroke.id) ?? stroke; // keys may come faster than the page is drawn
    return (by, snap, label) => {
      const next = draggedBar(original, part, by, numFrames, snap);
      if (next) editor.replaceStroke(next, label);
    };
  };
  return html`<${Bar} editor=${editor} cell=${cell} name=${`${kind} ${index + 1}`} kind=${stroke.kind} color=${strokeColor(index)} span=${[start, end]}
    tail=${stroke.kind === "move" && stroke.stay ? Math.max(end, numFrames - 1) : end} dots=${stroke.kind === "move" ? stroke.frames.slice(1, -1) : []}
    chosen=${(selected && editor.state.point) || -1} selected=${selected} drag=${drag}
    select=${(/** @type {string} */ part) => editor.select(stroke.id, part.startsWith("dot") ? Number(part.slice(4)) : null)}
    title=${html`<span class="swatch" ref=${paint("background", strokeColor(index))}>${index + 1}</span>${kind}`} />`;
}

/** @param {{editor: Editor, move: import("../camera.js").CameraMove, name: string, cell: number}} props */
function CameraBar({ editor, move, name, cell }) {
  const last = editor.document.settings.num_frames - 1;
  /** @param {string} part @returns {(by: number, snap: boolean, label: string | null) => void} */
  const drag = (part) => {
    const original = cameraOf(editor.document).find((one) => one.id === move.id) ?? move;
    return (by, snap, label) => editor.putCamera(draggedMove(original, part, by, last, snap), label);
  };
  return html`<${Bar} editor=${editor} cell=${cell} name=${`Camera: ${name}`} kind="camera" color="var(--accent)" span=${[move.start, move.end]}
    selected=${editor.state.cameraMove === move.id} select=${() => editor.selectCamera(move.id)} drag=${drag}
    title=${html`<${Icon} name="camera" />${CAMERA_KINDS[move.kind].title}`} />`;
}

/**
 * @param {import("../strokes.js").Stroke} stroke
 * @param {string} part "all", "start", "end" or "dot" and the point
 * @param {number} by frames
 * @param {number} numFrames
 * @param {boolean} snap to whole frames
 */
function draggedBar(stroke, part, by, numFrames, snap) {
  const last = numFrames - 1;
  const [start, end] = span(stroke, numFrames);
  const snapped = (/** @type {number} */ frame) => (snap || stroke.kind === "hold" ? Math.round(frame) : Math.round(frame * 100) / 100);
  if (part === "all") {
    const shift = snapped(start + by) - start;
    return stroke.kind === "hold" && stroke.end === null ? retimed(stroke, clamp(start + shift, 0, last - 1), null) : shifted(stroke, shift, numFrames);
  }
  if (part === "start") return retimed(stroke, clamp(snapped(start + by), 0, end - 1), stroke.kind === "hold" ? stroke.end : end);
  if (part === "end") {
    const next = clamp(snapped(end + by), start + 1, Math.max(last, start + 1));
    return retimed(stroke, start, stroke.kind === "hold" && next >= last ? null : next);
  }
  const point = Number(part.slice(4));
  return stroke.kind === "move" ? withTime(stroke, point, snapped(stroke.frames[point] + by)) : null;
}
