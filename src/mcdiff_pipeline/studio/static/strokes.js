/**
 * Strokes of the page: where a point of the picture moves, and when. Every change makes a new stroke.
 *
 * A move stores the time of each of its points in frames, so that an edited timing and a recorded one are one thing. A
 * hold stores the frames between which it keeps its point still; `end: null` is the end of the clip. `stay` keeps a move
 * at its last point from its arrival to the end of the clip.
 *
 * `easing`, `strength`, `rotate`, `scale`, `radius` and `handles` are those of a stroke sheet; what is missing changes
 * nothing. `even` marks a move of a sheet that gives no times for its points: "open" ends with the clip.
 *
 * @typedef {import("./geometry.js").Point} Point
 * @typedef {import("./easing.js").Ease} Ease
 * @typedef {{easing?: Ease, strength?: number, rotate?: number, scale?: number, radius?: number, handles?: Point[]}} Controls
 * @typedef {{id: string, points: Point[], region?: string | number} & Controls} Base
 * @typedef {Base & {kind: "move", frames: number[], stay?: boolean, even?: "open" | "closed"}} Move
 * @typedef {Base & {kind: "hold", start: number, end: number | null}} Hold
 * @typedef {Move | Hold} Stroke
 * @typedef {{kind: string, points: Point[], frames?: number[], start_frame?: number, end_frame?: number, region?: string | number} & Controls} SheetStroke
 */
import { EASES } from "./easing.js";
import { between, clamp, distance, pathLength, rounded, simplified } from "./geometry.js";

export const MAX_POINTS = 64;

/** 32 random hexadecimal digits. */
export function newId() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Times at constant speed along the path.
 *
 * @param {Point[]} points
 * @param {number} start
 * @param {number} end
 */
export function evenTimes(points, start, end) {
  const length = pathLength(points);
  let way = 0;
  const times = points.map((point, i) => {
    if (i) way += distance(points[i - 1], point);
    return length ? start + ((end - start) * way) / length : start + ((end - start) * i) / (points.length - 1 || 1);
  });
  return increasing(times, end);
}

/**
 * The same times, moved apart where two would be equal or run backward; the last one stays. Times are written with three
 * digits.
 *
 * @param {number[]} times
 * @param {number} end
 */
function increasing(times, end) {
  const step = Math.min(0.01, (end - times[0]) / (4 * times.length));
  const result = [...times];
  result[result.length - 1] = end;
  for (let i = result.length - 2; i > 0; i--) result[i] = Math.min(result[i], result[i + 1] - step);
  for (let i = 1; i < result.length - 1; i++) result[i] = Math.max(result[i], result[i - 1] + step);
  return result.map((time) => rounded(time, 3));
}

/**
 * A move from what the pen did.
 *
 * @param {Point[]} points
 * @param {number[]} times milliseconds
 * @param {{start: number, last: number, tolerance: number, fps: number, record: boolean}} options
 *     `start` and `last` are frames: where the move begins, and the last one of the clip.
 * @returns {Move}
 */
export function drawnMove(points, times, { start, last, tolerance, fps, record }) {
  const kept = simplified(points, record ? times : null, tolerance, MAX_POINTS);
  const path = kept.map((i) => /** @type {Point} */ ([rounded(points[i][0]), rounded(points[i][1])]));
  if (!record) return { id: newId(), kind: "move", points: path, frames: evenTimes(path, start, last) };
  const seconds = (times[times.length - 1] - times[0]) / 1000;
  const end = start + clamp(seconds * fps, 1, last - start);
  const total = times[times.length - 1] - times[0] || 1;
  const frames = kept.map((i) => start + ((end - start) * (times[i] - times[0])) / total);
  return { id: newId(), kind: "move", points: path, frames: increasing(frames, end) };
}

/** @param {Stroke} stroke @param {number} numFrames @returns {[number, number]} */
export function span(stroke, numFrames) {
  if (stroke.kind === "hold") return [stroke.start, stroke.end ?? numFrames - 1];
  return [stroke.frames[0], stroke.frames[stroke.frames.length - 1]];
}

/** The share of its whole motion that a stroke has made. @param {Stroke} stroke @param {number} frame @param {number} start @param {number} end */
const shareAt = ({ easing = "linear" }, frame, start, end) => EASES[easing](clamp((frame - start) / Math.max(end - start, 1e-9), 0, 1));

/**
 * Where the path is at a frame: at the first point before its time, at the last after it.
 *
 * @param {Stroke} stroke
 * @param {number} frame
 * @returns {Point}
 */
export function positionAt(stroke, frame) {
  const { points, strength = 1 } = stroke;
  if (stroke.kind === "hold") return points[0];
  const { frames } = stroke;
  const [start, end] = [frames[0], frames[frames.length - 1]];
  const time = Math.min(end, start + (end - start) * shareAt(stroke, frame, start, end));
  const i = Math.max(1, frames.findIndex((one) => time <= one));
  return between(points[0], between(points[i - 1], points[i], (time - frames[i - 1]) / (frames[i] - frames[i - 1])), strength);
}

/**
 * Where the points are that move with the path instead of its beginning; none if the stroke has no such.
 *
 * @param {Stroke} stroke @param {number} frame @param {number} numFrames @returns {Point[]}
 */
export function handlesAt(stroke, frame, numFrames) {
  const { rotate, scale, radius, handles = [] } = controlsOf(stroke);
  const [x, y] = stroke.points[0];
  /** @type {Point[]} */
  const places = radius === undefined ? handles : [[x - radius, y], [x + radius, y]]; // prettier-ignore
  const share = (stroke.strength ?? 1) * shareAt(stroke, frame, ...span(stroke, numFrames));
  const [hx, hy] = positionAt(stroke, frame);
  const [angle, factor] = [((rotate ?? 0) * share * Math.PI) / 180, (scale ?? 1) ** share];
  const [c, s] = [factor * Math.cos(angle), factor * Math.sin(angle)];
  return places.map(([px, py]) => [hx + c * (px - x) - s * (py - y), hy + s * (px - x) + c * (py - y)]);
}

/** Whether it turns or grows. @param {Controls} stroke */
export const turns = ({ rotate = 0, scale = 1 }) => rotate !== 0 || scale !== 1;

/** What a sheet says of a stroke besides its path and its time. @param {Stroke} stroke @returns {Controls} */
export function controlsOf(stroke) {
  const { easing = "linear", strength = 1, rotate = 0, scale = 1, radius = 20, handles = [] } = stroke;
  const moves = stroke.kind === "move" || turns(stroke);
  return {
    ...(moves && easing !== "linear" ? { easing } : {}),
    ...(moves && strength !== 1 ? { strength } : {}),
    ...(rotate ? { rotate } : {}),
    ...(scale === 1 ? {} : { scale }),
    ...(handles.length ? { handles } : turns(stroke) ? { radius } : {}),
  };
}

/** Whether the stroke says nothing from this frame on. @param {Stroke} stroke @param {number} frame @param {number} numFrames */
export function isOver(stroke, frame, numFrames) {
  if (frame <= 0) return false;
  return span(stroke, numFrames)[1] <= frame && !(stroke.kind === "move" && stroke.stay && frame < numFrames - 1);
}

/** @template {Stroke} T @param {T} stroke @param {number} dx @param {number} dy @returns {T} */
export function movedBy(stroke, dx, dy) {
  const moved = (/** @type {Point[]} */ points) => points.map(([x, y]) => /** @type {Point} */ ([rounded(x + dx), rounded(y + dy)]));
  return { ...stroke, points: moved(stroke.points), ...(stroke.handles ? { handles: moved(stroke.handles) } : {}) };
}

/** @template {Stroke} T @param {T} stroke @param {number} index @param {Point} point @returns {T} */
export function withPoint(stroke, index, point) {
  const place = /** @type {Point} */ ([rounded(point[0]), rounded(point[1])]);
  return { ...stroke, points: stroke.points.map((old, i) => (i === index ? place : old)) };
}

/** @param {Move} stroke @param {number} segment @param {number} share @returns {Move} */
export function withAddedPoint(stroke, segment, share) {
  const [x, y] = between(stroke.points[segment], stroke.points[segment + 1], share);
  const time = stroke.frames[segment] + (stroke.frames[segment + 1] - stroke.frames[segment]) * share;
  const points = [...stroke.points];
  const frames = [...stroke.frames];
  points.splice(segment + 1, 0, [rounded(x), rounded(y)]);
  frames.splice(segment + 1, 0, rounded(time, 3));
  return { ...stroke, points, frames };
}

/** Null if too few points would be left. @param {Stroke} stroke @param {number} index @returns {Stroke | null} */
export function withoutPoint(stroke, index) {
  if (stroke.kind === "hold" || stroke.points.length <= 2) return null;
  return {
    ...stroke,
    points: stroke.points.filter((_, i) => i !== index),
    frames: stroke.frames.filter((_, i) => i !== index),
  };
}

/**
 * The stroke from `start` to `end`. The times of points between keep their proportions.
 *
 * @template {Stroke} T
 * @param {T} stroke
 * @param {number} start
 * @param {number | null} end null is allowed for holds: the end of the clip
 * @returns {T}
 */
export function retimed(stroke, start, end) {
  if (stroke.kind === "hold") return { ...stroke, start, end };
  const { frames } = stroke;
  const [from, to] = [frames[0], frames[frames.length - 1]];
  const last = /** @type {number} */ (end);
  const scale = (last - start) / (to - from);
  return { ...stroke, frames: increasing(frames.map((time) => start + (time - from) * scale), last) };
}

/** Moved in time, as far as the clip allows. @template {Stroke} T @param {T} stroke @param {number} by @param {number} numFrames @returns {T} */
export function shifted(stroke, by, numFrames) {
  const [start, end] = span(stroke, numFrames);
  const shift = clamp(by, -start, Math.max(numFrames - 1 - end, -start));
  if (!shift) return stroke;
  if (stroke.kind === "hold") return { ...stroke, start: start + shift, end: end + shift };
  return { ...stroke, frames: stroke.frames.map((time) => rounded(time + shift, 3)) };
}

/** With another time of one point, kept between those of its neighbors. @param {Move} stroke @param {number} index @param {number} time @returns {Move} */
export function withTime(stroke, index, time) {
  const { frames } = stroke;
  const low = index ? frames[index - 1] + 0.05 : Math.max(0, 0);
  const high = index + 1 < frames.length ? frames[index + 1] - 0.05 : Infinity;
  if (low > high) return stroke;
  return { ...stroke, frames: frames.map((old, i) => (i === index ? rounded(clamp(time, low, high), 3) : old)) };
}

/**
 * The stroke as objects of a stroke sheet: none if nothing of it lies within the clip, and one more for a stroke that stays
 * where it arrives, if it is more than a path.
 *
 * @param {Stroke} stroke
 * @param {number} numFrames
 * @returns {SheetStroke[]}
 */
export function toSheets(stroke, numFrames) {
  const last = numFrames - 1;
  const [start, end] = span(stroke, numFrames);
  if (Math.ceil(start) >= last) return [];
  const controls = controlsOf(stroke);
  const more = { ...(stroke.region === undefined ? {} : { region: stroke.region }), ...controls };
  const { points } = stroke;
  if (stroke.kind === "hold") {
    return [{ kind: "hold", points: points.slice(0, 1), start_frame: start, ...(stroke.end === null ? {} : { end_frame: end }), ...more }];
  }
  const { region } = stroke;
  if (points.every((point) => distance(point, points[0]) === 0)) {
    const [from, to] = [Math.ceil(start), Math.floor(end)];
    const { easing, strength, ...others } = more;
    return to > from ? [{ kind: "hold", points: points.slice(0, 1), start_frame: from, end_frame: to, ...(turns(stroke) ? more : others) }] : [];
  }
  const stays = stroke.stay && end < last;
  if (!stays) return [{ kind: "move", points, ...timesOf(stroke, last), ...more }];
  if (!Object.keys(controls).length) return [{ kind: "move", points: [...points, points[points.length - 1]], frames: [...stroke.frames, last], ...more }];
  const handles = handlesAt(stroke, end, numFrames).map(([x, y]) => /** @type {Point} */ ([rounded(x), rounded(y)]));
  const held = { kind: "hold", points: [positionAt(stroke, end)], start_frame: Math.ceil(end), ...(region === undefined ? {} : { region }) };
  const move = { kind: "move", points, frames: stroke.frames, ...more };
  return Math.ceil(end) < last ? [move, handles.length ? { ...held, handles } : held] : [move];
}

/** The times of a move in a sheet: both ends if they say the same. @param {Move} stroke @param {number} last @returns {Partial<SheetStroke>} */
function timesOf({ points, frames, even }, last) {
  const [start, end] = [frames[0], frames[frames.length - 1]];
  const isEven = even && Number.isInteger(start) && Number.isInteger(end) && evenTimes(points, start, end).every((time, i) => Math.abs(time - frames[i]) < 2e-3);
  if (!isEven) return { frames };
  return { start_frame: start, ...(even === "open" && end === last ? {} : { end_frame: end }) };
}

const CONTROLS = /** @type {const} */ (["easing", "strength", "rotate", "scale", "radius", "handles"]);

/** @param {SheetStroke} sheet @param {number} numFrames @returns {Stroke} */
export function fromSheet(sheet, numFrames) {
  const more = Object.fromEntries(/** @type {const} */ (["region", ...CONTROLS]).filter((name) => sheet[name] != null).map((name) => [name, sheet[name]]));
  const points = sheet.points.map(([x, y]) => /** @type {Point} */ ([x, y]));
  const start = sheet.start_frame ?? 0;
  if (sheet.kind === "hold") return { id: newId(), kind: "hold", points, start, end: sheet.end_frame ?? null, ...more };
  if (sheet.frames) return { id: newId(), kind: "move", points, frames: sheet.frames, ...more };
  const frames = evenTimes(points, start, sheet.end_frame ?? numFrames - 1);
  return { id: newId(), kind: "move", points, frames, even: sheet.end_frame == null ? "open" : "closed", ...more };
}

/** In words, for lists and screen readers. @param {Stroke} stroke @param {number} numFrames */
export function describe(stroke, numFrames) {
  const [start, end] = span(stroke, numFrames).map((frame) => rounded(frame, 1));
  const { strength = 1, rotate = 0, scale = 1, radius, handles } = controlsOf(stroke);
  const more = [strength === 1 ? "" : `${rounded(strength)} times as far`, rotate ? `turns ${rounded(rotate)} degrees` : "", scale === 1 ? "" : `grows ${rounded(scale)} times`];
  const number = radius === undefined ? handles?.length : 2;
  const points = number ? `${number === 1 ? "one point moves" : `${number} points move`} with it` : "";
  return [`${stroke.kind === "hold" ? "Hold" : "Move"}, frames ${start} to ${end}`, ...more, points].filter(Boolean).join(", ");
}
