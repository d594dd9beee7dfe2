/** Regions, the things that move as a whole: click a thing, brush it, or draw its outline. */
import { crossesItself, distance, rounded, signedArea } from "../geometry.js";
import { MAX_REGIONS, freeName, putRegion } from "../document.js";
import { maskFromUrl } from "../masks.js";
import { newId } from "../strokes.js";
import { html } from "../vendor/preact-htm.js";
import { Brush } from "./brush.js";

/** @typedef {import("../geometry.js").Point} Point */

/** What the page says while a click is answered. */
export const LOOKING = "Looking at the picture";

/** @param {import("../editor.js").Editor} editor */
const segmenterReady = (editor) => editor.state.model?.segmenter?.ready === true;

/** @param {import("../editor.js").Editor} editor */
const sayWhyNot = (editor) => editor.say(editor.state.model?.segmenter?.why ?? "The segmenter is not there yet. Brush and outline work without it.");

/** A region for each thing that strokes move. @param {import("../editor.js").Editor} editor */
export async function findRegions(editor) {
  if (!segmenterReady(editor)) return sayWhyNot(editor);
  if (editor.state.busy) return;
  const { strokes } = editor.live.sheet();
  if (!strokes.some((stroke) => stroke.kind === "move")) return editor.say("Draw a move on the thing first.");
  editor.store.set({ busy: LOOKING });
  const answer = await editor.live.ask({ type: "propose", strokes });
  const found = answer.type === "refused" ? [] : answer.regions;
  for (const { mask } of found) editor.shapes.remember(mask, await maskFromUrl(mask));
  editor.store.set({ busy: null });
  if (answer.type === "refused") return editor.say(answer.why);
  if (!found.length) return editor.say("No clear outline was found. Click the thing with Region, or draw its outline.");
  let next = editor.document;
  for (const { mask } of found.slice(0, MAX_REGIONS - next.regions.length)) {
    next = putRegion(next, { id: newId(), name: freeName(next, "Region"), rigid: false, order: null, mask });
  }
  editor.edit(next);
  editor.say(found.length === 1 ? "One region was found." : `${found.length} regions were found.`);
}

/** @param {import("../editor.js").Editor} editor @returns {import("./tools.js").Tool} */
export function regionTool(editor) {
  const brush = new Brush(editor);
  /** @type {Point[]} corners of the outline that is being drawn */
  let corners = [];
  /** @type {{region: string, points: Point[], labels: number[]} | null} the clicks that made the selected region */
  let clicks = null;
  /** The clicks before this one have been answered. */
  let answered = Promise.resolve();
  let given = 0; // up by one when the clicks that wait for an answer are given up

  const selected = () => editor.document.regions.find((region) => region.id === editor.state.region && !region.still) ?? null;

  /** @returns {import("../document.js").Region} */
  const fresh = () => ({ id: newId(), name: freeName(editor.document, "Region"), rigid: false, order: null });

  /** @param {import("../document.js").Region | null} old @param {string} mask */
  const put = (old, mask) => {
    const { polygon: _, ...rest } = old ?? fresh();
    editor.putRegion({ ...rest, mask });
    return rest.id;
  };

  const looking = () => editor.state.busy === LOOKING;

  function giveUp() {
    given++;
    if (looking()) editor.store.set({ busy: null });
  }

  /** Clicks are answered one after the other: each is made with the points of those before it. @param {import("../stage.js").Pen} pen */
  function clickInTurn(pen) {
    const before = given;
    answered = answered.then(async () => {
      if (before !== given) return;
      await click(pen).catch((error) => console.error(error));
      if (before === given && looking()) editor.store.set({ busy: null });
    });
  }

  /** @param {import("../stage.js").Pen} pen */
  async function click(pen) {
    if (!segmenterReady(editor)) return sayWhyNot(editor);
    if (!editor.view.isInPicture(pen.picture)) return;
    const region = selected();
    const adding = !(pen.alt || !editor.state.adding);
    const goesOn = clicks && region && clicks.region === region.id ? clicks : null;
    if (!goesOn && !adding) return editor.say("Click the thing first, then take away parts of it.");
    const points = [...(goesOn?.points ?? []), /** @type {Point} */ (pen.picture.map((value) => rounded(value)))];
    const labels = [...(goesOn?.labels ?? []), adding ? 1 : 0];
    editor.store.set({ busy: LOOKING });
    const before = given;
    const answer = await editor.live.ask({ type: "segment", points, labels });
    if (before !== given) return;
    if (answer.type === "refused") return editor.say(answer.why);
    const url = pngUrl(answer.payload);
    editor.shapes.remember(url, await maskFromUrl(url));
    if (before !== given) return;
    clicks = { region: put(goesOn ? region : null, url), points, labels };
    if (answer.warning) editor.say(answer.warning);
    else if (!goesOn) editor.say("Click again to add to it; Alt-click takes away. Esc begins another region.");
  }

  function closeOutline() {
    const polygon = corners;
    corners = [];
    editor.store.schedule();
    if (polygon.length < 3 || Math.abs(signedArea(polygon)) < 8) return editor.say("An outline needs at least three corners.");
    if (crossesItself(polygon)) return editor.say("The outline crosses itself. Draw it again without crossing.");
    editor.putRegion({ ...fresh(), polygon });
  }

  /** @param {import("../stage.js").Pen} pen */
  function corner(pen) {
    const place = /** @type {Point} */ (editor.view.clampToReach(pen.picture).map((value) => rounded(value)));
    const first = corners[0] && distance(editor.view.toStage(corners[0]), pen.stage) < 12;
    if (corners.length >= 3 && (first || pen.count === 2)) return closeOutline();
    corners = [...corners, place];
    editor.store.schedule();
  }

  const modes = /** @type {const} */ ([["click", "Click"], ["brush", "Brush"], ["polygon", "Outline"]]); // prettier-ignore
  const hints = {
    click: "Click a thing to find its outline.",
    brush: "Brush over a whole thing.",
    polygon: "Click the corners of an outline. Enter or a double-click closes it.",
  };

  return {
    id: "region", key: "R", title: "Region", cursor: "crosshair",
    get hint() {
      return hints[editor.state.regionMode];
    },
    down(pen) {
      if (editor.state.frame > 0) return editor.say("Regions are drawn on the given picture. Go to frame 0 (Home).");
      if (editor.document.regions.length >= MAX_REGIONS && !selected()) return editor.say(`There is room for ${MAX_REGIONS} regions. Remove one first.`);
      if (editor.state.regionMode === "click") return clickInTurn(pen);
      if (editor.state.regionMode === "polygon") return corner(pen);
      brush.down(pen, pen.alt || !editor.state.adding);
    },
    move: (pens) => brush.move(pens),
    async up() {
      if (!brush.path.length) return;
      const old = selected();
      if (brush.erasing && !old) {
        brush.cancel();
        return editor.say("Select the region to take away from, in the list or with V.");
      }
      const made = await brush.finish(old);
      if (!made) return old ? editor.removeRegion(old.id) : undefined;
      if (made.share > 0.999) return editor.say("That is the whole picture. A region is a part of it.");
      put(old, made.url);
    },
    cancel: () => brush.cancel(),
    leave() {
      giveUp();
      corners = [];
      clicks = null;
    },
    keydown(event) {
      if (event.key === "Escape" && corners.length) {
        corners = [];
        editor.store.schedule();
        return true;
      }
      if (event.key === "Enter" && corners.length) {
        closeOutline();
        return true;
      }
      if (event.key === "Backspace" && corners.length) {
        corners = corners.slice(0, -1);
        editor.store.schedule();
        return true;
      }
      if (event.key === "Escape" && (editor.state.region || looking())) {
        giveUp();
        editor.selectRegion(null);
        return true;
      }
      return false;
    },
    overlay: () => {
      const { pointer, regionMode } = editor.state;
      if (regionMode === "brush") return brush.overlay();
      if (regionMode === "polygon" && corners.length) {
        const places = corners.map((place) => editor.view.toStage(place));
        const line = [...places, ...(pointer ? [pointer.stage] : [])].map((place) => place.join()).join(" ");
        return html`<polyline class="outline-line" points=${line} />
          ${places.map(([x, y], i) => html`<circle key=${i} class=${i ? "corner" : "corner first"} cx=${x} cy=${y} r=${i ? 4 : 6} />`)}`;
      }
      if (regionMode === "click" && clicks && clicks.region === editor.state.region) {
        return clicks.points.map((place, i) => {
          const [x, y] = editor.view.toStage(place);
          const add = clicks?.labels[i] === 1;
          return html`<g key=${i} class=${add ? "click-add" : "click-take"}><circle cx=${x} cy=${y} r="7" /><text x=${x} y=${y + 4}>${add ? "+" : "−"}</text></g>`;
        });
      }
      return null;
    },
    options: () => html`
      <div class="choice" role="group" aria-label="How to draw a region">
        ${modes.map(([mode, title]) => html`
          <button key=${mode} aria-pressed=${editor.state.regionMode === mode} onClick=${() => editor.store.set({ regionMode: mode })}
            title=${mode === "click" && !segmenterReady(editor) ? editor.state.model?.segmenter?.why ?? "" : hints[mode]}>${title}</button>`)}
      </div>
      ${editor.state.regionMode !== "polygon" && html`
        <div class="choice" role="group" aria-label="What a click or the brush does">
          <button aria-pressed=${editor.state.adding} onClick=${() => editor.store.set({ adding: true })}>Add</button>
          <button aria-pressed=${!editor.state.adding} title="The same as with Alt" onClick=${() => editor.store.set({ adding: false })}>Take away</button>
        </div>`}
      ${editor.state.regionMode === "brush" && brush.size()}
      ${editor.state.regionMode === "polygon"
        ? corners.length > 2 && html`<button class="button small" onClick=${closeOutline}>Close outline</button>`
        : selected() && html`<button class="button small" aria-label="New region" onClick=${() => editor.selectRegion(null)}>New<span class="wide"> region</span></button>`}
    `,
  }; // prettier-ignore
}

/** @param {Uint8Array} bytes of a PNG */
function pngUrl(bytes) {
  let text = "";
  for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return `data:image/png;base64,${btoa(text)}`;
}
