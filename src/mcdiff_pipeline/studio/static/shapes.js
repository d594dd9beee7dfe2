/**
 * What regions cover, on the picture: decoded masks, outlines for the overlay, and whether a point lies inside. Masks are
 * decoded once; until then a region has no outline.
 *
 * @typedef {import("./geometry.js").Point} Point
 * @typedef {import("./document.js").Region} Region
 * @typedef {import("./masks.js").Mask} Mask
 */
import { insidePolygon, rounded } from "./geometry.js";
import { coveredShare, innermostPoint, insideMask, maskFromUrl, outlines } from "./masks.js";

export class Shapes {
  /** @param {{width: number, height: number}} picture @param {() => void} changed called when a mask was decoded */
  constructor(picture, changed) {
    this.picture = picture;
    this.changed = changed;
    /** @type {Map<string, {mask: Mask, loops: Point[][], anchor: Point | null, share: number} | null>} by the URL of the mask; null while it is decoded */
    this.decoded = new Map();
  }

  /** @param {string} url @param {Mask} mask of this URL */
  remember(url, mask) {
    const [x, y] = [this.picture.width / mask.width, this.picture.height / mask.height];
    const loops = outlines(mask).map((loop) => loop.map((point) => /** @type {Point} */ ([point[0] * x, point[1] * y])));
    const inner = innermostPoint(mask);
    const anchor = inner && /** @type {Point} */ ([rounded(inner[0] * x), rounded(inner[1] * y)]);
    this.decoded.set(url, { mask, loops, anchor, share: coveredShare(mask) });
  }

  /** @param {Region} region */
  entry(region) {
    if (!region.mask) return null;
    const known = this.decoded.get(region.mask);
    if (known !== undefined) return known;
    const url = region.mask;
    this.decoded.set(url, null);
    maskFromUrl(url).then((mask) => {
      this.remember(url, mask);
      this.changed();
    });
    return null;
  }

  /** @param {Region} region @returns {Mask | null} */
  mask(region) {
    return this.entry(region)?.mask ?? null;
  }

  /** Closed outlines in pixels of the picture. @param {Region} region @returns {Point[][]} */
  loops(region) {
    return region.polygon ? [region.polygon] : this.entry(region)?.loops ?? [];
  }

  /** @param {Region} region @param {Point} point of the picture */
  contains = (region, point) => {
    if (region.polygon) return insidePolygon(point, region.polygon);
    const entry = this.entry(region);
    return entry !== null && insideMask(entry.mask, point, this.picture.width, this.picture.height);
  };

  /** A point deep inside. @param {Region} region @returns {Point | null} */
  anchor = (region) => {
    if (!region.polygon) return this.entry(region)?.anchor ?? null;
    const count = region.polygon.length;
    const sum = region.polygon.reduce(([x, y], point) => /** @type {Point} */ ([x + point[0] / count, y + point[1] / count]), /** @type {Point} */ ([0, 0]));
    return sum;
  };

  /** The topmost region at a point. @param {Region[]} regions @param {Point} point @returns {Region | null} */
  at(regions, point) {
    return [...regions].reverse().find((region) => this.contains(region, point)) ?? null;
  }
}
