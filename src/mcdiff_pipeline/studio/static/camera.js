/**
 * The camera of a document: moves with an amount, a time and an easing, which add up. Each version has its own; a branch
 * goes on from where the camera of its parent is.
 *
 * @typedef {import("./geometry.js").Point} Point
 * @typedef {import("./easing.js").Ease} Ease
 * @typedef {"pan" | "truck" | "zoom" | "rotate" | "dolly"} CameraKind
 * @typedef {{kind: CameraKind, x: number, y: number, amount: number, start: number, end: number, ease: Ease}} SentMove
 *     `x` and `y` are those of a pan or a truck, in pixels of the picture to the right and down; `amount` is a zoom factor,
 *     degrees clockwise, or the share of the way to the picture
 * @typedef {SentMove & {id: string}} CameraMove
 * @typedef {{pan: Point, truck: Point, zoom: number, rotate: number, dolly: number}} CameraPlace
 * @typedef {{a: number, b: number, x: number, y: number}} Similarity `(a + ib) * point + (x + iy)`
 */
import { EASES } from "./easing.js";
import { clamp, rounded } from "./geometry.js";
import { newId } from "./strokes.js";

/** @type {Record<CameraKind, {title: string, hint: string, unit: string, rest: number, first: number, low: number, high: number, step: number}>} */
export const CAMERA_KINDS = {
  pan: { title: "Pan", hint: "turns to a side", unit: "px", rest: 0, first: 0, low: 0, high: 0, step: 1 },
  truck: { title: "Truck", hint: "moves to a side; regions in front move more", unit: "px", rest: 0, first: 0, low: 0, high: 0, step: 1 },
  zoom: { title: "Zoom", hint: "magnifies all alike", unit: "times", rest: 1, first: 1.3, low: 0.05, high: 20, step: 0.05 },
  rotate: { title: "Rotate", hint: "turns about its axis", unit: "degrees", rest: 0, first: 10, low: -3600, high: 3600, step: 1 },
  dolly: { title: "Dolly", hint: "moves into the scene; regions in front grow more", unit: "of the way", rest: 0, first: 0.2, low: -20, high: 0.95, step: 0.05 },
};

/** Whether a move has a way to the right and down, and no amount. @param {CameraKind} kind */
export const hasWay = (kind) => kind === "pan" || kind === "truck";

/** @param {CameraKind} kind @param {{width: number}} picture @param {number} start @param {number} end @returns {CameraMove} */
export const newCameraMove = (kind, picture, start, end) => ({
  id: newId(), kind, x: hasWay(kind) ? Math.round(picture.width / 8) : 0, y: 0, amount: CAMERA_KINDS[kind].first, start, end, ease: "ease-in-out",
}); // prettier-ignore

/** @param {import("./document.js").StudioDocument} document @returns {CameraMove[]} */
export const cameraOf = (document) => document.camera ?? [];

/** In words. @param {CameraMove} move */
export function describeCamera({ kind, x, y, amount, start, end }) {
  const far = hasWay(kind) ? `${Math.round(x)}, ${Math.round(y)} px` : `${rounded(amount, 2)} ${CAMERA_KINDS[kind].unit}`;
  return `${CAMERA_KINDS[kind].title} ${far}, frames ${rounded(start, 1)} to ${rounded(end, 1)}`;
}

/** @param {Point} a @param {Point} b @param {number} [share] @returns {Point} */
const plus = (a, b, share = 1) => [a[0] + share * b[0], a[1] + share * b[1]];

/** Where the camera is at a frame. @param {SentMove[]} moves @param {number} frame @returns {CameraPlace} */
export function cameraAt(moves, frame) {
  /** @type {CameraPlace} */
  const place = { pan: [0, 0], truck: [0, 0], zoom: 1, rotate: 0, dolly: 0 };
  for (const { kind, x, y, amount, start, end, ease } of moves) {
    const share = EASES[ease](clamp((frame - start) / Math.max(end - start, 1e-9), 0, 1));
    if (kind === "pan" || kind === "truck") place[kind] = plus(place[kind], [x, y], share);
    else if (kind === "zoom") place.zoom *= amount ** share;
    else place[kind] += share * amount;
  }
  return place;
}

/**
 * Where the camera of a branch is at a frame.
 *
 * @param {{at: number, camera: SentMove[]}[]} branch the versions from the root on @param {number} frame @returns {CameraPlace}
 */
export function cameraOnBranch(branch, frame) {
  const parts = branch.filter(({ camera }, i) => !i || JSON.stringify(camera) !== JSON.stringify(branch[i - 1].camera));
  const until = (/** @type {number} */ i) => Math.min(frame, parts[i + 1]?.at ?? frame);
  let place = cameraAt(parts[0].camera, until(0));
  for (let i = 1; i < parts.length && parts[i].at < frame; i++) {
    const [from, to] = [cameraAt(parts[i].camera, parts[i].at), cameraAt(parts[i].camera, until(i))];
    const step = (/** @type {"pan" | "truck"} */ kind) => plus(place[kind], plus(to[kind], from[kind], -1));
    place = { pan: step("pan"), truck: step("truck"), zoom: (place.zoom * to.zoom) / from.zoom, rotate: place.rotate + to.rotate - from.rotate, dolly: place.dolly + to.dolly - from.dolly };
  }
  return place;
}

/** What the server gets: the moves that change something. @param {CameraMove[]} moves @param {number} numFrames @returns {SentMove[]} */
export const cameraToServer = (moves, numFrames) =>
  moves
    .filter(({ kind, x, y, amount, start }) => (hasWay(kind) ? x || y : amount !== CAMERA_KINDS[kind].rest) && start < numFrames - 1)
    .map(({ kind, x, y, amount, start, end, ease }) => ({ kind, x, y, amount, start, end, ease }));

/** @param {SentMove[] | undefined} moves @returns {CameraMove[]} */
export const cameraFromServer = (moves = []) => moves.map((move) => ({ id: newId(), ...move }));

/** As a bar of it is dragged, or the same if that goes no further. @param {CameraMove} move @param {string} part "all", "start" or "end" @param {number} by frames @param {number} last @param {boolean} snap @returns {CameraMove} */
export function draggedMove(move, part, by, last, snap) {
  const snapped = (/** @type {number} */ frame) => (snap ? Math.round(frame) : rounded(frame));
  let { start, end } = move;
  if (part === "start") start = clamp(snapped(start + by), 0, end - 1);
  else if (part === "end") end = clamp(snapped(end + by), start + 1, Math.max(last, start + 1));
  else {
    const shift = clamp(snapped(start + by) - start, -start, Math.max(last - end, -start));
    [start, end] = [rounded(start + shift), rounded(end + shift)];
  }
  return start === move.start && end === move.end ? move : { ...move, start, end };
}

/**
 * How the camera moves what is not in front of or behind the scene: `zoom * R(-rotate) * ((u - truck) / (1 - dolly) - pan)`, with u from
 * the center of the picture.
 *
 * @param {CameraPlace} place @param {{width: number, height: number}} picture @returns {Similarity}
 */
export function seenBy({ pan, truck, zoom, rotate, dolly }, { width, height }) {
  const angle = (-rotate * Math.PI) / 180;
  const [c, s] = [zoom * Math.cos(angle), zoom * Math.sin(angle)];
  const near = 1 / Math.max(1 - dolly, 0.05);
  const [a, b] = [c * near, s * near];
  const [cx, cy] = [width / 2, height / 2];
  const [tx, ty] = [cx + truck[0], cy + truck[1]];
  const [x, y] = [cx - (a * tx - b * ty) - (c * pan[0] - s * pan[1]), cy - (b * tx + a * ty) - (s * pan[0] + c * pan[1])];
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
