/**
 * Changes of whole strokes. Each gives a new stroke with the same id, except for a copy.
 *
 * @typedef {import("./geometry.js").Point} Point
 * @typedef {import("./strokes.js").Stroke} Stroke
 * @typedef {import("./strokes.js").Move} Move
 */
import { between, distance, pathLength, rounded } from "./geometry.js";
import { MAX_POINTS, evenTimes, newId } from "./strokes.js";

const EASE_STEPS = 8;

/** A little beside it. @param {Stroke} stroke @param {{width: number, height: number}} picture @returns {Stroke} */
export function copied(stroke, { width, height }) {
  const step = 0.04 * Math.min(width, height);
  const [x, y] = stroke.points[0];
  const [dx, dy] = [x + step < width ? step : -step, y + step < height ? step : -step];
  return { ...stroke, id: newId(), points: stroke.points.map(([px, py]) => /** @type {Point} */ ([rounded(px + dx), rounded(py + dy)])) };
}

/** About its beginning, which stays. @param {Move} stroke @param {"x" | "y"} axis @returns {Move} */
export function mirrored(stroke, axis) {
  const [x, y] = stroke.points[0];
  return { ...stroke, points: stroke.points.map(([px, py]) => (axis === "x" ? [rounded(2 * x - px), py] : [px, rounded(2 * y - py)])) };
}

/** From its end to its beginning, in the same time. @param {Move} stroke @returns {Move} */
export function reversed(stroke) {
  const { frames } = stroke;
  const sum = frames[0] + frames[frames.length - 1];
  return { ...stroke, points: [...stroke.points].reverse(), frames: [...frames].reverse().map((time) => rounded(sum - time, 3)) };
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
export const even = (stroke) => ({ ...stroke, frames: evenTimes(stroke.points, stroke.frames[0], stroke.frames[stroke.frames.length - 1]) });

/** Starting and ending slowly, by the cubic of the library's "ease-in-out". @param {Move} stroke @returns {Move} */
export function eased(stroke) {
  const { points, frames } = stroke;
  const length = pathLength(points);
  const [start, end] = [frames[0], frames[frames.length - 1]];
  if (!length) return stroke;
  let way = 0;
  const corners = points.map((point, i) => (way += i ? distance(points[i - 1], point) : 0) / length);
  const steps = Array.from({ length: EASE_STEPS - 1 }, (_, k) => easeInOut((k + 1) / EASE_STEPS));
  const near = (/** @type {number} */ share) => corners.some((corner) => Math.abs(corner - share) < 0.02);
  const shares = [...corners, ...steps.filter((share) => !near(share))].sort((a, b) => a - b).slice(0, MAX_POINTS);
  shares[shares.length - 1] = 1;
  const path = shares.map((share) => {
    const i = Math.max(0, Math.min(points.length - 2, corners.findIndex((corner) => corner >= share) - 1));
    const [x, y] = between(points[i], points[i + 1], (share - corners[i]) / (corners[i + 1] - corners[i] || 1));
    return /** @type {Point} */ ([rounded(x), rounded(y)]);
  });
  const times = shares.map((share) => rounded(start + (end - start) * inverseEase(share), 3));
  return { ...stroke, points: path, frames: times };
}

/** @param {number} t */
const easeInOut = (t) => t * t * (3 - 2 * t);

/** @param {number} share @returns {number} the time at which `easeInOut` gets there */
function inverseEase(share) {
  let [low, high] = [0, 1];
  for (let i = 0; i < 30; i++) {
    const middle = (low + high) / 2;
    if (easeInOut(middle) < share) low = middle;
    else high = middle;
  }
  return share <= 0 ? 0 : share >= 1 ? 1 : (low + high) / 2;
}
