/**
 * The camera of a document: moves with an amount, a time and an easing, which add up. The server gets one keyframe for each
 * frame in which it moves, as the library's `Camera` has them.
 *
 * @typedef {import("./geometry.js").Point} Point
 * @typedef {"pan" | "zoom" | "rotate" | "dolly"} CameraKind
 * @typedef {"linear" | "ease-in" | "ease-out" | "ease-in-out"} Ease
 * @typedef {{id: string, kind: CameraKind, x: number, y: number, amount: number, start: number, end: number, ease: Ease}} CameraMove
 *     `x` and `y` are those of a pan, in pixels of the picture to the right and down; `amount` is a zoom factor, degrees
 *     clockwise, or the share of the way to the picture
 * @typedef {{pan: Point, zoom: number, rotate: number, dolly: number}} CameraPlace
 * @typedef {{a: number, b: number, x: number, y: number}} Similarity `(a + ib) * point + (x + iy)`
 */
import { clamp, rounded } from "./geometry.js";
import { newId } from "./strokes.js";

/** @type {Record<CameraKind, {title: string, unit: string, rest: number, first: number, low: number, high: number, step: number}>} */
export const CAMERA_KINDS = {
  pan: { title: "Pan", unit: "px", rest: 0, first: 0, low: 0, high: 0, step: 1 },
  zoom: { title: "Zoom", unit: "times", rest: 1, first: 1.3, low: 0.05, high: 20, step: 0.05 },
  rotate: { title: "Rotate", unit: "degrees", rest: 0, first: 10, low: -3600, high: 3600, step: 1 },
  dolly: { title: "Dolly", unit: "of the way", rest: 0, first: 0.2, low: -20, high: 0.95, step: 0.05 },
};

/** From the share of the time to that of the way, as the library has them. @type {Record<Ease, (time: number) => number>} */
const EASES = { linear: (t) => t, "ease-in": (t) => t * t, "ease-out": (t) => t * (2 - t), "ease-in-out": (t) => t * t * (3 - 2 * t) };
export const EASE_NAMES = /** @type {Record<Ease, string>} */ ({ linear: "even", "ease-in": "starts slowly", "ease-out": "ends slowly", "ease-in-out": "starts and ends slowly" });

/** @param {CameraKind} kind @param {{width: number}} picture @param {number} start @param {number} end @returns {CameraMove} */
export const newCameraMove = (kind, picture, start, end) => ({
  id: newId(), kind, x: kind === "pan" ? Math.round(picture.width / 8) : 0, y: 0, amount: CAMERA_KINDS[kind].first, start, end, ease: "ease-in-out",
}); // prettier-ignore

/** @param {import("./document.js").StudioDocument} document @returns {CameraMove[]} */
export const cameraOf = (document) => document.camera ?? [];

/** In words. @param {CameraMove} move */
export function describeCamera({ kind, x, y, amount, start, end }) {
  const far = kind === "pan" ? `${Math.round(x)}, ${Math.round(y)} px` : `${rounded(amount, 2)} ${CAMERA_KINDS[kind].unit}`;
  return `${CAMERA_KINDS[kind].title} ${far}, frames ${rounded(start, 1)} to ${rounded(end, 1)}`;
}

/** Where the camera is at a frame. @param {CameraMove[]} moves @param {number} frame @returns {CameraPlace} */
export function cameraAt(moves, frame) {
  const place = { pan: /** @type {Point} */ ([0, 0]), zoom: 1, rotate: 0, dolly: 0 };
  for (const { kind, x, y, amount, start, end, ease } of moves) {
    const share = EASES[ease](clamp((frame - start) / Math.max(end - start, 1e-9), 0, 1));
    if (kind === "pan") place.pan = [place.pan[0] + share * x, place.pan[1] + share * y];
    else if (kind === "zoom") place.zoom *= amount ** share;
    else place[kind] += share * amount;
  }
  return place;
}

/**
 * The camera as the JSON object of the library; null if it stays.
 *
 * @param {CameraMove[]} moves @param {{width: number, height: number}} picture @param {number} numFrames
 */
export function cameraToSheet(moves, { width, height }, numFrames) {
  const moving = moves.filter(({ kind, x, y, amount, start }) => (kind === "pan" ? x || y : amount !== CAMERA_KINDS[kind].rest) && start < numFrames - 1);
  if (!moving.length) return null;
  const first = Math.max(0, Math.floor(Math.min(...moving.map((move) => move.start))));
  const last = Math.min(numFrames - 1, Math.ceil(Math.max(...moving.map((move) => move.end))));
  const keyframes = [];
  for (let frame = first; frame <= last; frame++) {
    const { pan, zoom, rotate, dolly } = cameraAt(moving, frame);
    keyframes.push({ frame, pan: pan.map((value) => rounded(value, 3)), zoom: rounded(zoom, 5), rotate: rounded(rotate, 4), dolly: rounded(dolly, 5) });
  }
  return { version: 1, width, height, keyframes };
}

/**
 * How the camera moves what is not in front of or behind the scene: `zoom * R(-rotate) * (u / (1 - dolly) - pan)`, with u from
 * the center of the picture.
 *
 * @param {CameraPlace} place @param {{width: number, height: number}} picture @returns {Similarity}
 */
export function seenBy({ pan, zoom, rotate, dolly }, { width, height }) {
  const angle = (-rotate * Math.PI) / 180;
  const [c, s] = [zoom * Math.cos(angle), zoom * Math.sin(angle)];
  const near = 1 / Math.max(1 - dolly, 0.05);
  const [a, b] = [c * near, s * near];
  const [cx, cy] = [width / 2, height / 2];
  const [x, y] = [cx - (a * cx - b * cy) - (c * pan[0] - s * pan[1]), cy - (b * cx + a * cy) - (s * pan[0] + c * pan[1])];
  return { a, b, x, y };
}

/** @param {Similarity} by @param {Point} point @returns {Point} */
export const moved = ({ a, b, x, y }, [px, py]) => [a * px - b * py + x, b * px + a * py + y];

/** The inverse of `moved`. @param {Similarity} by @param {Point} point @returns {Point} */
export function movedBack({ a, b, x, y }, [px, py]) {
  const square = a * a + b * b;
  const [dx, dy] = [px - x, py - y];
  return [(a * dx + b * dy) / square, (a * dy - b * dx) / square];
}
