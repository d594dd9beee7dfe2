/**
 * Plane geometry of points, polylines and polygons. All coordinates are (x, y), x right, y down.
 *
 * @typedef {[number, number]} Point
 */

/** @param {Point} a @param {Point} b */
export const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);

/** @param {Point} a @param {Point} b @param {number} share @returns {Point} */
export const between = (a, b, share) => [a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share];

/** @param {number} value @param {number} low @param {number} high */
export const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** @param {Point[]} points */
export function pathLength(points) {
  let length = 0;
  for (let i = 1; i < points.length; i++) length += distance(points[i - 1], points[i]);
  return length;
}

/**
 * The nearest place on a polyline.
 *
 * @param {Point} point
 * @param {Point[]} points
 * @returns {{distance: number, segment: number, share: number, point: Point}}
 */
export function nearestOnPath(point, points) {
  let best = { distance: Infinity, segment: 0, share: 0, point: points[0] };
  for (let i = 0; i + 1 < points.length; i++) {
    const [a, b] = [points[i], points[i + 1]];
    const [dx, dy] = [b[0] - a[0], b[1] - a[1]];
    const square = dx * dx + dy * dy;
    const share = square ? clamp(((point[0] - a[0]) * dx + (point[1] - a[1]) * dy) / square, 0, 1) : 0;
    const place = between(a, b, share);
    const far = distance(point, place);
    if (far < best.distance) best = { distance: far, segment: i, share, point: place };
  }
  return points.length === 1 ? { ...best, distance: distance(point, points[0]) } : best;
}

/**
 * Ramer-Douglas-Peucker on points with time: keeps those without which the path, followed in time, would be off by
 * more than the tolerance. Without times the deviation is measured from the segment.
 *
 * @param {Point[]} points
 * @param {number[] | null} times
 * @param {number} tolerance
 * @returns {number[]} indices of the points to keep
 */
export function simplifiedIndices(points, times, tolerance) {
  const keep = new Uint8Array(points.length);
  keep[0] = keep[points.length - 1] = 1;
  const stack = [[0, points.length - 1]];
  while (stack.length) {
    const [first, last] = /** @type {[number, number]} */ (stack.pop());
    let worst = tolerance;
    let index = -1;
    for (let i = first + 1; i < last; i++) {
      const off = times
        ? distance(points[i], between(points[first], points[last], (times[i] - times[first]) / (times[last] - times[first] || 1)))
        : nearestOnPath(points[i], [points[first], points[last]]).distance;
      if (off > worst) [worst, index] = [off, i];
    }
    if (index >= 0) {
      keep[index] = 1;
      stack.push([first, index], [index, last]);
    }
  }
  return [...points.keys()].filter((i) => keep[i]);
}

/**
 * The same with at most `limit` points: the tolerance grows until they suffice.
 *
 * @param {Point[]} points
 * @param {number[] | null} times
 * @param {number} tolerance
 * @param {number} limit
 */
export function simplified(points, times, tolerance, limit) {
  let kept = simplifiedIndices(points, times, tolerance);
  while (kept.length > limit) {
    tolerance *= 1.5;
    kept = simplifiedIndices(points, times, tolerance);
  }
  return kept;
}

/** Twice the signed area. @param {Point[]} polygon */
export function signedArea(polygon) {
  let area = 0;
  polygon.forEach(([x, y], i) => {
    const [nextX, nextY] = polygon[(i + 1) % polygon.length];
    area += x * nextY - nextX * y;
  });
  return area;
}

/** Even-odd. @param {Point} point @param {Point[]} polygon */
export function insidePolygon([x, y], polygon) {
  let inside = false;
  polygon.forEach(([ax, ay], i) => {
    const [bx, by] = polygon[(i + 1) % polygon.length];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
  });
  return inside;
}

/** Whether two sides of the closed polygon cross. @param {Point[]} polygon */
export function crossesItself(polygon) {
  const count = polygon.length;
  /** @param {Point} a @param {Point} b @param {Point} c */
  const side = (a, b, c) => Math.sign((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]));
  for (let i = 0; i < count; i++) {
    for (let j = i + 2; j < count; j++) {
      if (i === 0 && j === count - 1) continue;
      const [a, b, c, d] = [polygon[i], polygon[i + 1], polygon[j], polygon[(j + 1) % count]];
      if (side(a, b, c) * side(a, b, d) < 0 && side(c, d, a) * side(c, d, b) < 0) return true;
    }
  }
  return false;
}

/** The three corners of an arrow head at `tip`. @param {Point} tail @param {Point} tip @param {number} size */
export function arrowHead(tail, tip, size) {
  const angle = Math.atan2(tip[1] - tail[1], tip[0] - tail[0]);
  return [2.6, 0, -2.6].map((turn) =>
    turn === 0 ? tip : /** @type {Point} */ ([tip[0] + size * Math.cos(angle + turn), tip[1] + size * Math.sin(angle + turn)]),
  );
}

/** @param {number} value @param {number} [digits] */
export const rounded = (value, digits = 2) => Number(value.toFixed(digits));
