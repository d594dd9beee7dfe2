/**
 * Dense flow as a picture: hue is direction (red to the right, as in the library's flow images), opacity is speed on a
 * fixed scale, with arrows on top.
 *
 * @typedef {import("./geometry.js").Point} Point
 * @typedef {{width: number, height: number, u: Float32Array, v: Float32Array}} Flow cells of the grid; u to the right,
 *     v down, in pixels of the picture per frame
 */
import { clamp } from "./geometry.js";

/** Speed of full opacity, as a share of the shorter side of the picture per frame. */
export const FULL_SPEED = 0.015;
const MAX_OPACITY = 0.78;
const ARROW_SPACING = 34; // in CSS pixels, on stages of up to `SMALL_STAGE`; on larger ones all grows
const SMALL_STAGE = 2048;
const ARROW_GAIN = 4;

/** @param {number} bits of an IEEE 754 half */
function halfToNumber(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/**
 * @param {ArrayBuffer} buffer `[2, height, width]` float16, little endian
 * @param {number} height
 * @param {number} width
 * @param {number} xScale from the unit of the flow to pixels of the picture
 * @param {number} yScale
 * @returns {Flow}
 */
export function decodeFlow(buffer, height, width, xScale, yScale) {
  const view = new DataView(buffer);
  const size = height * width;
  const [u, v] = [new Float32Array(size), new Float32Array(size)];
  for (let i = 0; i < size; i++) {
    u[i] = halfToNumber(view.getUint16(2 * i, true)) * xScale;
    v[i] = halfToNumber(view.getUint16(2 * (size + i), true)) * yScale;
  }
  return { width, height, u, v };
}

/** Colors of the wheel by twelfths of a turn, clockwise from right, near those of Middlebury's. */
const WHEEL = [[255, 40, 40], [255, 140, 0], [255, 210, 0], [190, 230, 0], [90, 220, 30], [0, 215, 110], [0, 205, 205], [0, 150, 255], [60, 90, 255], [130, 70, 255], [205, 50, 255], [255, 40, 170]]; // prettier-ignore

/** @param {number} u @param {number} v @returns {[number, number, number]} */
export function directionColor(u, v) {
  const place = ((Math.atan2(v, u) / (2 * Math.PI) + 1) % 1) * WHEEL.length;
  const [first, share] = [Math.floor(place) % WHEEL.length, place % 1];
  const next = (first + 1) % WHEEL.length;
  return /** @type {[number, number, number]} */ (WHEEL[first].map((value, i) => value + (WHEEL[next][i] - value) * share));
}

/** The opacity of a speed. @param {number} share of full speed */
export const opacityOf = (share) => MAX_OPACITY * clamp(share, 0, 1) ** 0.8;

/** One pixel a cell. @param {Flow} flow @param {number} fullSpeed in pixels per frame */
export function flowPicture(flow, fullSpeed) {
  const canvas = new OffscreenCanvas(flow.width, flow.height);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const pixels = context.createImageData(flow.width, flow.height);
  for (let i = 0; i < flow.u.length; i++) {
    const [u, v] = [flow.u[i], flow.v[i]];
    const [r, g, b] = directionColor(u, v);
    pixels.data.set([r, g, b, 255 * opacityOf(Math.hypot(u, v) / fullSpeed)], 4 * i);
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

/** @param {Flow} flow @param {Point} point of the picture @param {{width: number, height: number}} picture @returns {Point} */
export function flowAt(flow, [x, y], picture) {
  const column = clamp(Math.floor((x / picture.width) * flow.width), 0, flow.width - 1);
  const row = clamp(Math.floor((y / picture.height) * flow.height), 0, flow.height - 1);
  const i = row * flow.width + column;
  return [flow.u[i], flow.v[i]];
}

/**
 * @param {CanvasRenderingContext2D} context in CSS pixels of the stage
 * @param {Flow} flow
 * @param {import("./view.js").View} view
 * @param {number} fullSpeed
 */
export function drawArrows(context, flow, view, fullSpeed) {
  const { stage, picture, scale } = view;
  const [left, top] = view.fromFrame([0, 0]);
  const [right, bottom] = view.fromFrame([picture.width, picture.height]);
  const size = Math.max(1, stage.width / SMALL_STAGE);
  const columns = Math.max(1, Math.round((right - left) / (ARROW_SPACING * size)));
  const rows = Math.max(1, Math.round((bottom - top) / (ARROW_SPACING * size)));
  const path = new Path2D();
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const x = left + ((column + 0.5) / columns) * (right - left);
      const y = top + ((row + 0.5) / rows) * (bottom - top);
      if (x < -40 || y < -40 || x > stage.width + 40 || y > stage.height + 40) continue;
      const [u, v] = flowAt(flow, view.toFrame([x, y]), picture);
      if (Math.hypot(u, v) < fullSpeed * 0.02) continue;
      addArrow(path, x, y, u * scale * ARROW_GAIN, v * scale * ARROW_GAIN, size);
    }
  }
  context.lineCap = context.lineJoin = "round";
  context.strokeStyle = "rgba(0, 0, 0, .55)";
  context.lineWidth = 3 * size;
  context.stroke(path);
  context.strokeStyle = "rgba(255, 255, 255, .95)";
  context.lineWidth = 1.25 * size;
  context.stroke(path);
}

/** @param {Path2D} path @param {number} x @param {number} y the middle @param {number} dx @param {number} dy @param {number} size */
function addArrow(path, x, y, dx, dy, size) {
  const length = Math.hypot(dx, dy);
  const shown = clamp(length, 5 * size, ARROW_SPACING * size * 0.9);
  const [ux, uy] = [dx / length, dy / length];
  const [tipX, tipY] = [x + (ux * shown) / 2, y + (uy * shown) / 2];
  path.moveTo(x - (ux * shown) / 2, y - (uy * shown) / 2);
  path.lineTo(tipX, tipY);
  const head = Math.min(5 * size, shown * 0.4);
  path.moveTo(tipX - head * (ux + uy * 0.7), tipY - head * (uy - ux * 0.7));
  path.lineTo(tipX, tipY);
  path.lineTo(tipX - head * (ux - uy * 0.7), tipY - head * (uy + ux * 0.7));
}
