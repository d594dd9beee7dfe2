/**
 * What lies under the pointer. Points win over paths, and the selected stroke over others. Targets keep their size on the
 * screen whatever the zoom: 24 pixels across for mouse and pen, 44 for fingers.
 *
 * @typedef {import("./geometry.js").Point} Point
 * @typedef {import("./strokes.js").Stroke} Stroke
 * @typedef {{stroke: Stroke, point: number} | {stroke: Stroke, point: null, segment: number, share: number}} Hit
 */
import { distance, nearestOnPath } from "./geometry.js";

/** @param {string} pointerType */
export const targetRadius = (pointerType) => (pointerType === "touch" ? 22 : 12);

/**
 * @param {Stroke[]} strokes
 * @param {string | null} selected
 * @param {Point} at on the stage
 * @param {number} radius in CSS pixels
 * @param {import("./view.js").View} view
 * @returns {Hit | null}
 */
export function strokeUnder(strokes, selected, at, radius, view) {
  const ordered = [...strokes.filter((stroke) => stroke.id === selected), ...strokes.filter((stroke) => stroke.id !== selected).reverse()];
  const groups = [ordered.filter((stroke) => stroke.id === selected), ordered.filter((stroke) => stroke.id !== selected)];
  for (const group of groups) {
    const hit = nearestPoint(group, at, radius, view);
    if (hit) return hit;
  }
  for (const group of groups) {
    const hit = nearestPath(group, at, radius, view);
    if (hit) return hit;
  }
  return null;
}

/** @param {Stroke[]} strokes @param {Point} at @param {number} radius @param {import("./view.js").View} view @returns {Hit | null} */
function nearestPoint(strokes, at, radius, view) {
  /** @type {Hit | null} */
  let best = null;
  let far = radius;
  for (const stroke of strokes) {
    stroke.points.forEach((point, index) => {
      const off = distance(view.toStage(point), at);
      if (off < far) [best, far] = [{ stroke, point: index }, off];
    });
  }
  return best;
}

/** @param {Stroke[]} strokes @param {Point} at @param {number} radius @param {import("./view.js").View} view @returns {Hit | null} */
function nearestPath(strokes, at, radius, view) {
  /** @type {Hit | null} */
  let best = null;
  let far = radius;
  for (const stroke of strokes) {
    const nearest = nearestOnPath(at, stroke.points.map((point) => view.toStage(point)));
    if (nearest.distance < far) {
      [best, far] = [{ stroke, point: null, segment: nearest.segment, share: nearest.share }, nearest.distance];
    }
  }
  return best;
}
