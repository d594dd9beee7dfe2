/**
 * Brushing a mask, for the tools that make regions. While the pen is down the line is only shown; the mask is made when it
 * goes up.
 *
 * @typedef {import("../geometry.js").Point} Point
 * @typedef {import("../stage.js").Pen} Pen
 */
import { simplifiedIndices } from "../geometry.js";
import { copyMask, coveredShare, emptyMask, maskToUrl, paintLine } from "../masks.js";
import { html } from "../vendor/preact-htm.js";

export class Brush {
  /** @param {import("../editor.js").Editor} editor */
  constructor(editor) {
    this.editor = editor;
    /** @type {Point[]} in pixels of the picture */
    this.path = [];
    this.erasing = false;
  }

  /** @param {Pen} pen @param {boolean} erasing */
  down(pen, erasing) {
    this.path = [pen.picture];
    this.erasing = erasing;
  }

  /** @param {Pen[]} pens */
  move(pens) {
    if (this.path.length) this.path.push(...pens.map((pen) => pen.picture));
  }

  cancel() {
    this.path = [];
  }

  /**
   * The mask of a region with what was brushed.
   *
   * @param {import("../document.js").Region | null} region
   * @returns {Promise<{url: string, share: number} | null>} null if nothing is left of it
   */
  async finish(region) {
    const { editor, erasing } = this;
    const { width, height } = editor.picture;
    const old = region ? editor.shapes.mask(region) : null;
    const mask = old ? copyMask(old) : emptyMask(width, height);
    if (region?.polygon) fillPolygon(mask, region.polygon, width);
    const scale = mask.width / width;
    const radius = (editor.state.brush / 2 / editor.view.scale) * scale;
    const kept = simplifiedIndices(this.path, null, 0.25 / scale).map((i) => /** @type {Point} */ ([this.path[i][0] * scale, this.path[i][1] * scale]));
    kept.forEach((point, i) => paintLine(mask, kept[Math.max(0, i - 1)], point, radius, erasing ? 0 : 255));
    this.path = [];
    const share = coveredShare(mask);
    if (share === 0) return null;
    const url = await maskToUrl(mask);
    editor.shapes.remember(url, mask);
    return { url, share };
  }

  overlay() {
    const { view, state } = this.editor;
    const { pointer, brush } = state;
    const points = this.path.map((point) => view.toStage(point).join()).join(" ");
    const line = this.path.length === 1 ? `${points} ${points}` : points;
    return html`
      ${line && html`<polyline class=${this.erasing ? "brushed erasing" : "brushed"} points=${line} stroke-width=${brush} />`}
      ${pointer && html`<circle class="brush-ring" cx=${pointer.stage[0]} cy=${pointer.stage[1]} r=${brush / 2} />`}
    `;
  }

  size() {
    const { editor } = this;
    return html`<label class="slider"><span class="wide">Brush</span>
      <input type="range" min="6" max="120" value=${editor.state.brush} aria-label="Brush size in pixels of the screen"
        onInput=${(/** @type {any} */ event) => editor.store.set({ brush: Number(event.target.value) })} /></label>`;
  }
}

/** @param {import("../masks.js").Mask} mask @param {Point[]} polygon in pixels of the picture @param {number} width of the picture */
function fillPolygon(mask, polygon, width) {
  const canvas = new OffscreenCanvas(mask.width, mask.height);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.scale(mask.width / width, mask.width / width);
  context.beginPath();
  polygon.forEach(([x, y]) => context.lineTo(x, y));
  context.fill();
  const { data } = context.getImageData(0, 0, mask.width, mask.height);
  for (let i = 0; i < mask.data.length; i++) mask.data[i] = data[4 * i + 3];
}
