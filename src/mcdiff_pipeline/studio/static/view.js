/**
 * Where the picture lies on the stage: `screen = picture * scale + offset`, in CSS pixels of the stage.
 *
 * @typedef {import("./geometry.js").Point} Point
 */
import { moved, movedBack } from "./camera.js";
import { clamp } from "./geometry.js";

const MARGIN = 24;
const NARROW_MARGIN = 8;
export const MIN_SCALE = 0.05;
export const MAX_SCALE = 40;

export class View {
  /** @param {number} width @param {number} height of the picture in pixels */
  constructor(width, height) {
    this.picture = { width, height };
    this.stage = { width: 1, height: 1 };
    this.scale = 1;
    this.x = 0;
    this.y = 0;
    /** @type {import("./camera.js").Similarity | null} how a camera has moved the scene in the shown frame */
    this.seen = null;
    /** Whether the picture is to fill the stage when that changes its size. */
    this.fitted = true;
  }

  /** @param {number} width @param {number} height of the stage in CSS pixels */
  resize(width, height) {
    const { width: oldWidth, height: oldHeight } = this.stage;
    this.stage = { width, height };
    if (this.fitted) return this.fit();
    this.x += (width - oldWidth) / 2;
    this.y += (height - oldHeight) / 2;
    this.keepVisible();
  }

  fit() {
    const { width, height } = this.stage;
    const margin = Math.min(width, height) < 500 ? NARROW_MARGIN : MARGIN;
    const scale = Math.min((width - 2 * margin) / this.picture.width, (height - 2 * margin) / this.picture.height);
    this.scale = clamp(scale, MIN_SCALE, MAX_SCALE);
    this.x = (width - this.picture.width * this.scale) / 2;
    this.y = (height - this.picture.height * this.scale) / 2;
    this.fitted = true;
  }

  /** Zooms so that the picture stays where it is under a point of the stage. @param {number} factor @param {Point} [at] */
  zoom(factor, at = [this.stage.width / 2, this.stage.height / 2]) {
    this.zoomTo(this.scale * factor, at);
  }

  /** @param {number} scale @param {Point} [at] */
  zoomTo(scale, at = [this.stage.width / 2, this.stage.height / 2]) {
    const next = clamp(scale, MIN_SCALE, MAX_SCALE);
    this.x = at[0] - ((at[0] - this.x) * next) / this.scale;
    this.y = at[1] - ((at[1] - this.y) * next) / this.scale;
    this.scale = next;
    this.fitted = false;
    this.keepVisible();
  }

  /** @param {number} dx @param {number} dy in CSS pixels */
  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.fitted = false;
    this.keepVisible();
  }

  /** Some of the picture always stays on the stage. */
  keepVisible() {
    const visible = 48;
    this.x = clamp(this.x, visible - this.picture.width * this.scale, this.stage.width - visible);
    this.y = clamp(this.y, visible - this.picture.height * this.scale, this.stage.height - visible);
  }

  /** A place of the scene, in pixels of the picture. @param {Point} point of the stage @returns {Point} */
  toPicture(point) {
    const place = this.toFrame(point);
    return this.seen ? movedBack(this.seen, place) : place;
  }

  /** @param {Point} point of the scene, in pixels of the picture @returns {Point} */
  toStage(point) {
    return this.fromFrame(this.seen ? moved(this.seen, point) : point);
  }

  /** A place of the shown frame. @param {Point} point of the stage @returns {Point} */
  toFrame([x, y]) {
    return [(x - this.x) / this.scale, (y - this.y) / this.scale];
  }

  /** @param {Point} point of the shown frame @returns {Point} */
  fromFrame([x, y]) {
    return [x * this.scale + this.x, y * this.scale + this.y];
  }

  /** A stroke may go one picture's size beyond the picture. @param {Point} point @returns {Point} */
  clampToReach([x, y]) {
    const { width, height } = this.picture;
    return [clamp(x, -width, 2 * width), clamp(y, -height, 2 * height)];
  }

  /** Whether a point of the scene is seen in the shown frame. @param {Point} point */
  isInPicture(point) {
    const [x, y] = this.seen ? moved(this.seen, point) : point;
    return x >= 0 && y >= 0 && x < this.picture.width && y < this.picture.height;
  }
}
