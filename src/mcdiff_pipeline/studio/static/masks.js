/**
 * Masks of regions: one byte per pixel, 0 outside to 255 inside. A mask covers the whole picture, at its size or, for
 * large pictures, at a smaller one.
 *
 * @typedef {import("./geometry.js").Point} Point
 * @typedef {{width: number, height: number, data: Uint8Array}} Mask
 */
import { simplifiedIndices } from "./geometry.js";

const LONGEST_SIDE = 1600;
const PNG_PREFIX = "data:image/png;base64,";

/** @param {number} width @param {number} height of the picture @returns {Mask} */
export function emptyMask(width, height) {
  const scale = Math.min(1, LONGEST_SIDE / Math.max(width, height));
  const [w, h] = [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
  return { width: w, height: h, data: new Uint8Array(w * h) };
}

/** @param {Mask} mask @returns {Mask} */
export const copyMask = (mask) => ({ ...mask, data: mask.data.slice() });

/**
 * Paints a line with a round brush into the mask.
 *
 * @param {Mask} mask
 * @param {Point} from in pixels of the mask
 * @param {Point} to
 * @param {number} radius
 * @param {number} value 255 adds, 0 takes away
 */
export function paintLine(mask, from, to, radius, value) {
  const r = Math.max(radius, 0.71);
  const [dx, dy] = [to[0] - from[0], to[1] - from[1]];
  const square = dx * dx + dy * dy;
  const left = Math.max(0, Math.floor(Math.min(from[0], to[0]) - r));
  const right = Math.min(mask.width - 1, Math.ceil(Math.max(from[0], to[0]) + r));
  const top = Math.max(0, Math.floor(Math.min(from[1], to[1]) - r));
  const bottom = Math.min(mask.height - 1, Math.ceil(Math.max(from[1], to[1]) + r));
  for (let y = top; y <= bottom; y++) {
    for (let x = left; x <= right; x++) {
      const [px, py] = [x + 0.5 - from[0], y + 0.5 - from[1]];
      const share = square ? Math.min(1, Math.max(0, (px * dx + py * dy) / square)) : 0;
      const [ox, oy] = [px - share * dx, py - share * dy];
      if (ox * ox + oy * oy <= r * r) mask.data[y * mask.width + x] = value;
    }
  }
}

/** The share of pixels inside. @param {Mask} mask */
export function coveredShare(mask) {
  let inside = 0;
  for (const value of mask.data) inside += value > 127 ? 1 : 0;
  return inside / mask.data.length;
}

/** Whether a point, in pixels of a picture of the given size, lies inside. @param {Mask} mask @param {Point} point @param {number} width @param {number} height */
export function insideMask(mask, [x, y], width, height) {
  const column = Math.floor((x * mask.width) / width);
  const row = Math.floor((y * mask.height) / height);
  if (column < 0 || row < 0 || column >= mask.width || row >= mask.height) return false;
  return mask.data[row * mask.width + column] > 127;
}

/** The place inside that is farthest from the outline, roughly, in pixels of the mask; null if nothing is inside. @param {Mask} mask @returns {Point | null} */
export function innermostPoint(mask) {
  const { width, height, data } = mask;
  const depth = new Uint16Array(width * height);
  let best = -1;
  // two passes of a chessboard distance transform
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const i = y * width + x;
      if (data[i] > 127) depth[i] = 1 + Math.min(x ? depth[i - 1] : 0, y ? depth[i - width] : 0);
    }
  }
  for (let y = height - 1; y >= 0; y--) {
    for (let x = width - 1; x >= 0; x--) {
      const i = y * width + x;
      if (!depth[i]) continue;
      const next = 1 + Math.min(x + 1 < width ? depth[i + 1] : 0, y + 1 < height ? depth[i + width] : 0);
      depth[i] = Math.min(depth[i], next);
      if (best < 0 || depth[i] > depth[best]) best = i;
    }
  }
  return best < 0 ? null : [(best % width) + 0.5, Math.floor(best / width) + 0.5];
}

/**
 * Closed outlines along the borders of pixels, inside on the right.
 *
 * @param {Mask} mask
 * @param {number} [tolerance] of the simplification, in pixels of the mask
 * @returns {Point[][]} in pixels of the mask; holes run the other way around
 */
export function outlines(mask, tolerance = 0.75) {
  const { width, height, data } = mask;
  const across = width + 1;
  /** @param {number} x @param {number} y */
  const inside = (x, y) => x >= 0 && y >= 0 && x < width && y < height && data[y * width + x] > 127;
  /** @type {Map<number, number[]>} from a corner to the corners that follow it */
  const next = new Map();
  /** @param {number} x @param {number} y @param {number} toX @param {number} toY */
  const add = (x, y, toX, toY) => {
    const key = y * across + x;
    const list = next.get(key);
    if (list) list.push(toY * across + toX);
    else next.set(key, [toY * across + toX]);
  };
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (data[y * width + x] <= 127) continue;
      if (!inside(x, y - 1)) add(x, y, x + 1, y);
      if (!inside(x + 1, y)) add(x + 1, y, x + 1, y + 1);
      if (!inside(x, y + 1)) add(x + 1, y + 1, x, y + 1);
      if (!inside(x - 1, y)) add(x, y + 1, x, y);
    }
  }
  const loops = [];
  for (const [start, followers] of next) {
    while (followers.length) {
      const loop = [];
      let corner = start;
      do {
        loop.push(/** @type {Point} */ ([corner % across, Math.floor(corner / across)]));
        corner = /** @type {number} */ (/** @type {number[]} */ (next.get(corner)).pop());
      } while (corner !== start);
      loops.push(simplifiedLoop(loop, tolerance));
    }
  }
  return loops;
}

/** @param {Point[]} loop @param {number} tolerance */
function simplifiedLoop(loop, tolerance) {
  const closed = [...loop, loop[0]];
  const middle = Math.floor(closed.length / 2);
  const first = simplifiedIndices(closed.slice(0, middle + 1), null, tolerance);
  const second = simplifiedIndices(closed.slice(middle), null, tolerance).map((i) => i + middle);
  return [...first, ...second.slice(1, -1)].map((i) => closed[i]);
}

/** @param {Uint8Array} bytes */
function crc32(bytes) {
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (0xedb88320 & -(crc & 1));
  }
  return ~crc >>> 0;
}

/** @param {string} type @param {Uint8Array} content */
function pngChunk(type, content) {
  const chunk = new Uint8Array(content.length + 12);
  const view = new DataView(chunk.buffer);
  view.setUint32(0, content.length);
  chunk.set([...type].map((letter) => letter.charCodeAt(0)), 4);
  chunk.set(content, 8);
  view.setUint32(content.length + 8, crc32(chunk.subarray(4, content.length + 8)));
  return chunk;
}

/** The mask as a gray PNG of 8 bits, as stroke sheets hold it: a data URL. A canvas would write colors. @param {Mask} mask @returns {Promise<string>} */
export async function maskToUrl(mask) {
  const { width, height, data } = mask;
  const rows = new Uint8Array((width + 1) * height); // each row begins with its filter, 0
  for (let y = 0; y < height; y++) rows.set(data.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
  const stream = new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"));
  const packed = new Uint8Array(await new Response(stream).arrayBuffer());
  const header = new Uint8Array(13);
  new DataView(header.buffer).setUint32(0, width);
  new DataView(header.buffer).setUint32(4, height);
  header.set([8, 0, 0, 0, 0], 8); // 8 bits, gray, deflate, no interlacing
  const parts = [Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10), pngChunk("IHDR", header), pngChunk("IDAT", packed), pngChunk("IEND", new Uint8Array(0))];
  const bytes = new Uint8Array(await new Blob(/** @type {BlobPart[]} */ (parts)).arrayBuffer());
  let text = "";
  for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return PNG_PREFIX + btoa(text);
}

/** @param {string} url @returns {Promise<Mask>} */
export async function maskFromUrl(url) {
  const bytes = Uint8Array.from(atob(url.slice(PNG_PREFIX.length)), (letter) => letter.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
  context.drawImage(bitmap, 0, 0);
  const pixels = context.getImageData(0, 0, bitmap.width, bitmap.height).data;
  const data = new Uint8Array(bitmap.width * bitmap.height);
  for (let i = 0; i < data.length; i++) data[i] = pixels[4 * i];
  return { width: bitmap.width, height: bitmap.height, data };
}
