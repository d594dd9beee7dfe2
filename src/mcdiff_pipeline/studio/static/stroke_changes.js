/**
 * Changes of whole strokes. Each gives a new stroke with the same id, except for a copy.
 *
 * @typedef {import("./geometry.js").Point} Point
 * @typedef {import("./strokes.js").Stroke} Stroke
 * @typedef {import("./strokes.js").Move} Move
 */
import { between, rounded } from "./geometry.js";
import { MAX_POINTS, evenTimes, handlesAt, movedBy, newId, turns } from "./strokes.js";

/** A little beside it. @param {Stroke} stroke @param {{width: number, height: number}} picture @returns {Stroke} */
export function copied(stroke, { width, height }) {
  const step = 0.04 * Math.min(width, height);
  const [x, y] = stroke.points[0];
  const [dx, dy] = [x + step < width ? step : -step, y + step < height ? step : -step];
  return { ...movedBy(stroke, dx, dy), id: newId() };
}

/** About its beginning, which stays. @param {Move} stroke @param {"x" | "y"} axis @returns {Move} */
export function mirrored(stroke, axis) {
  const [x, y] = stroke.points[0];
  const across = (/** @type {Point[]} */ points) => points.map(([px, py]) => /** @type {Point} */ (axis === "x" ? [rounded(2 * x - px), py] : [px, rounded(2 * y - py)]));
  const { handles, rotate } = stroke;
  return { ...stroke, points: across(stroke.points), ...(handles ? { handles: across(handles) } : {}), ...(rotate ? { rotate: -rotate } : {}) };
}

const BACK = /** @type {const} */ ({ linear: "linear", "ease-in": "ease-out", "ease-out": "ease-in", "ease-in-out": "ease-in-out" });

/** From its end to its beginning, in the same time. @param {Move} stroke @param {number} numFrames @returns {Move} */
export function reversed(stroke, numFrames) {
  const { frames, handles, rotate = 0, scale = 1, radius, easing } = stroke;
  const sum = frames[0] + frames[frames.length - 1];
  const turned = turns(stroke) ? { rotate: -rotate, scale: 1 / scale, ...(radius ? { radius: radius * scale } : {}) } : {};
  return {
    ...stroke, points: [...stroke.points].reverse(), frames: [...frames].reverse().map((time) => rounded(sum - time, 3)), ...turned,
    ...(easing ? { easing: BACK[easing] } : {}), ...(handles ? { handles: handlesAt({ ...stroke, strength: 1 }, frames[frames.length - 1], numFrames) } : {}),
  }; // prettier-ignore
}

/**
 * Without corners: each is cut (Chaikin 1974, "An algorithm for high-speed curve generation"), or, where that would make too
 * many points, moved toward its neighbors.
 *
 * @param {Move} stroke @returns {Move}
 */
export function smoothed(stroke) {
  const { points, frames } = stroke;
  const last = points.length - 1;
  if (last < 2) return stroke;
  if (2 * last > MAX_POINTS) {
    const inner = points.map((point, i) => (i === 0 || i === last ? point : between(point, between(points[i - 1], points[i + 1], 0.5), 0.5)));
    return { ...stroke, points: inner.map(([x, y]) => [rounded(x), rounded(y)]) };
  }
  /** @type {Point[]} */
  const path = [points[0]];
  const times = [frames[0]];
  for (let i = 0; i < last; i++) {
    for (const share of [0.25, 0.75]) {
      if ((i === 0 && share < 0.5) || (i === last - 1 && share > 0.5)) continue;
      const [x, y] = between(points[i], points[i + 1], share);
      path.push([rounded(x), rounded(y)]);
      times.push(rounded(frames[i] + share * (frames[i + 1] - frames[i]), 3));
    }
  }
  return { ...stroke, points: [...path, points[last]], frames: [...times, frames[last]] };
}

/** At constant speed. @param {Move} stroke @returns {Move} */
export const even = ({ easing: _, ...stroke }) => ({ ...stroke, frames: evenTimes(stroke.points, stroke.frames[0], stroke.frames[stroke.frames.length - 1]) });
