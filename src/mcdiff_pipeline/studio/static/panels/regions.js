/** The list of regions with their names, order and corners. */
import { crossesItself } from "../geometry.js";
import { Cell, Input, paint } from "./fields.js";
import { Icon } from "../icons.js";
import { regionColor } from "../layer.js";
import { findRegions } from "../tools/region.js";
import { html } from "../vendor/preact-htm.js";

/**
 * @typedef {import("../editor.js").Editor} Editor
 * @typedef {import("../document.js").Region} Region
 * @typedef {import("../geometry.js").Point} Point
 */

/** @param {{editor: Editor}} props */
export function Regions({ editor }) {
  const { regions } = editor.document;
  return html`
    <section class="regions">
      <h2>Regions <span class="count">${regions.length || ""}</span>
        <button class="button small" title="Finds the things that the strokes move" aria-label="Find regions under the strokes" onClick=${() => findRegions(editor)}>Find</button>
        <button class="button small" title="Adds an outline in the middle, to be changed with numbers" onClick=${() => editor.addRegionAtCenter()}>Add region</button></h2>
      ${!regions.length && html`<p class="nothing">A thing with a region moves as a whole. Press R to draw one.</p>`}
      <ul>${regions.map((region, index) => html`<${RegionItem} key=${region.id} editor=${editor} region=${region} index=${index} />`)}</ul>
    </section>`;
}

/** @param {{editor: Editor, region: Region, index: number}} props */
function RegionItem({ editor, region, index }) {
  const open = editor.state.region === region.id;
  const change = (/** @type {Partial<Region>} */ changes) => editor.putRegion({ ...region, ...changes });
  const kind = region.still ? "kept still" : region.rigid ? "rigid" : "";
  return html`
    <li class=${open ? "open" : ""}>
      <div class="row">
        <button class="row-main" aria-expanded=${open} onClick=${() => editor.selectRegion(open ? null : region.id)}>
          <span class="swatch area" ref=${paint("--color", regionColor(index))}></span><span class="what">${region.name}</span><span class="when">${kind}</span>
        </button>
        <button class="icon-button quiet" aria-label=${`Remove ${region.name}`} title="Remove" onClick=${() => editor.removeRegion(region.id)}><${Icon} name="bin" /></button>
      </div>
      ${open && html`
        <div class="numbers">
          <label class="number wide-field">Name <${Input} type="text" maxlength="100" value=${region.name} onChange=${(/** @type {any} */ event) => rename(editor, region, event.target)} /></label>
          <label class="check"><input type="checkbox" checked=${region.still === true} onChange=${() => keepStill(editor, region)} /> Keep still</label>
          ${!region.still && html`
            <label class="check" title="It moves exactly as its strokes say: one stroke moves it, two also turn and scale it">
              <input type="checkbox" checked=${region.rigid} onChange=${() => change({ rigid: !region.rigid })} /> Rigid: it does not bend</label>
            <div class="pair">
              <span class="depth">${region.order === null ? "In front if it moves more" : region.order > 0 ? `In front (${region.order})` : `Behind (${region.order})`}</span>
              <button class="icon-button" title="To the front" aria-label="To the front" onClick=${() => change({ order: Math.min(64, (region.order ?? 0) + 1) })}><${Icon} name="front" /></button>
              <button class="icon-button" title="To the back" aria-label="To the back" onClick=${() => change({ order: Math.max(-64, (region.order ?? 0) - 1) })}><${Icon} name="back" /></button>
              ${region.order !== null && html`<button class="button small" onClick=${() => change({ order: null })}>Automatic</button>`}
            </div>`}
          ${region.polygon && html`<${Corners} editor=${editor} region=${region} corners=${region.polygon} />`}
        </div>`}
    </li>`;
}

/** @param {Editor} editor @param {Region} region */
function keepStill(editor, region) {
  const { still, ...rest } = region;
  editor.putRegion(still ? rest : { ...rest, still: true, rigid: true });
}

/** @param {{editor: Editor, region: Region, corners: Point[]}} props */
function Corners({ editor, region, corners }) {
  const { width, height } = editor.picture;
  /** @param {Point[]} polygon @returns {boolean} whether it was taken */
  const change = (polygon) => {
    if (crossesItself(polygon)) editor.say("The outline would cross itself there.");
    else editor.putRegion({ ...region, polygon });
    return !crossesItself(polygon);
  };
  const between = () => {
    const [[ax, ay], [bx, by]] = [corners[corners.length - 1], corners[0]];
    change([...corners, [(ax + bx) / 2, (ay + by) / 2]]);
  };
  return html`
    <table>
      <thead><tr><th scope="col">Corner</th><th scope="col">x</th><th scope="col">y</th><td></td></tr></thead>
      <tbody>
        ${corners.map(([x, y], i) => html`
          <tr key=${i}>
            <th scope="row">${i + 1}</th>
            <td><${Cell} label=${`x of corner ${i + 1}`} value=${x} min=${-width} max=${2 * width} onChange=${(/** @type {number} */ value) => change(corners.with(i, [value, y]))} /></td>
            <td><${Cell} label=${`y of corner ${i + 1}`} value=${y} min=${-height} max=${2 * height} onChange=${(/** @type {number} */ value) => change(corners.with(i, [x, value]))} /></td>
            <td>${corners.length > 3 && html`<button class="icon-button quiet" aria-label=${`Remove corner ${i + 1}`} onClick=${() => change(corners.filter((_, k) => k !== i))}><${Icon} name="close" /></button>`}</td>
          </tr>`)}
      </tbody>
    </table>
    <div class="pair"><button class="button small" title="Between the last corner and the first" onClick=${between}>Add corner</button></div>`;
}

/** @param {Editor} editor @param {Region} region @param {HTMLInputElement} input */
function rename(editor, region, input) {
  const name = input.value.trim();
  const taken = editor.document.regions.some((other) => other.id !== region.id && other.name === name);
  if (name && !taken) return editor.putRegion({ ...region, name });
  input.value = region.name;
  if (taken) editor.say(`Another region is called ${name}. Each needs a name of its own.`);
}
