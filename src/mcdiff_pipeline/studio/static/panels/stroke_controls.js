/** What a stroke says besides its path and its time, as choices and numbers. */
import { EASE_NAMES } from "../easing.js";
import { NumberField } from "./fields.js";
import { turns } from "../strokes.js";
import { html } from "../vendor/preact-htm.js";

/** @param {{editor: import("../editor.js").Editor, stroke: import("../strokes.js").Stroke}} props */
export function StrokeControls({ editor, stroke }) {
  const { easing = "linear", strength = 1, rotate = 0, scale = 1, radius, handles = [] } = stroke;
  const { width, height } = editor.picture;
  const change = (/** @type {import("../strokes.js").Controls} */ changes) => {
    const next = { ...(editor.document.strokes.find((one) => one.id === stroke.id) ?? stroke), ...changes };
    if (turns(next) && !handles.length) next.radius ??= Math.round(0.1 * Math.min(width, height));
    editor.replaceStroke(next);
  };
  const field = (/** @type {string} */ label, /** @type {"strength" | "rotate" | "scale" | "radius"} */ name, /** @type {number} */ value, /** @type {number} */ min, /** @type {number} */ max, step = 0.1) =>
    html`<${NumberField} label=${label} value=${value} min=${min} max=${max} step=${step} onChange=${(/** @type {number} */ number) => change({ [name]: number })} />`;
  const moves = stroke.kind === "move" || turns(stroke);
  return html`
    ${moves && html`
      <div class="pair">
        <label class="number">Speed
          <select value=${easing} onChange=${(/** @type {any} */ event) => change({ easing: event.target.value })}>
            ${Object.entries(EASE_NAMES).map(([name, words]) => html`<option key=${name} value=${name}>${words}</option>`)}
          </select></label>
        ${field("Strength", "strength", strength, -10, 10)}
      </div>`}
    <div class="pair">${field("Turn, degrees", "rotate", rotate, -3600, 3600, 0.5)}${field("Grow, times", "scale", scale, 0.05, 20, 0.05)}</div>
    ${handles.length > 0
      ? html`<p class="depth">${handles.length === 1 ? "One point moves" : `${handles.length} points move`} with it, as in its stroke sheet. They are kept, and move along when the whole stroke is dragged.</p>`
      : turns(stroke) && field("Radius, pixels", "radius", radius ?? 20, 0.5, Math.max(width, height), 0.5)}`;
}
