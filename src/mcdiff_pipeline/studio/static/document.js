/**
 * What the user edits: strokes, regions and settings. A document never changes; each edit makes a new one, so that undo
 * is a list of documents that share what is equal in them.
 *
 * @typedef {import("./geometry.js").Point} Point
 * @typedef {import("./strokes.js").Stroke} Stroke
 * @typedef {{id: string, name: string, polygon?: Point[], mask?: string, rigid: boolean, order: number | null, still?: boolean}} Region
 *     `mask` is the PNG of a stroke sheet, see masks.js. `still` marks what the keep-still brush made: it holds.
 * @typedef {{num_frames: number, fps: number, seed: number, steps: number | null, guidance: number | null,
 *     work: number | null, size: "picture" | "preview"}} Settings null is the default of the model; `work` is the shorter side at which motion is
 *     computed; `size` is that of the frames while they are made
 * @typedef {{version: 1, strokes: Stroke[], regions: Region[], settings: Settings, camera?: import("./camera.js").CameraMove[]}} StudioDocument
 */
import { cameraFromServer } from "./camera.js";
import { fromSheet, newId, toSheets } from "./strokes.js";

export const UNDO_DEPTH = 200;
export const MAX_REGIONS = 64;

/** @type {Settings} */
export const DEFAULT_SETTINGS = { num_frames: 16, fps: 8, seed: 0, steps: null, guidance: null, work: null, size: "preview" };

/** @returns {StudioDocument} */
export const emptyDocument = () => ({ version: 1, strokes: [], regions: [], settings: DEFAULT_SETTINGS });

/** @param {StudioDocument} document @param {Stroke} stroke @returns {StudioDocument} */
export const addStroke = (document, stroke) => ({ ...document, strokes: [...document.strokes, stroke] });

/** @param {StudioDocument} document @param {Stroke} stroke with the id of the one that it replaces @returns {StudioDocument} */
export const replaceStroke = (document, stroke) => ({
  ...document,
  strokes: document.strokes.map((old) => (old.id === stroke.id ? stroke : old)),
});

/** @param {StudioDocument} document @param {Set<string> | string} ids @returns {StudioDocument} */
export function removeStrokes(document, ids) {
  const gone = typeof ids === "string" ? new Set([ids]) : ids;
  return { ...document, strokes: document.strokes.filter((stroke) => !gone.has(stroke.id)) };
}

/** @param {StudioDocument} document @param {Region} region added, or in the place of the one with its id @returns {StudioDocument} */
export function putRegion(document, region) {
  const old = document.regions.find((other) => other.id === region.id);
  if (!old) return { ...document, regions: [...document.regions, region] };
  const strokes =
    old.name === region.name
      ? document.strokes
      : document.strokes.map((stroke) => (stroke.region === old.name ? { ...stroke, region: region.name } : stroke));
  return { ...document, strokes, regions: document.regions.map((other) => (other.id === region.id ? region : other)) };
}

/** @param {StudioDocument} document @param {string} id @returns {StudioDocument} */
export function removeRegion(document, id) {
  const gone = document.regions.find((region) => region.id === id);
  if (!gone) return document;
  const strokes = document.strokes.map((stroke) => {
    if (stroke.region !== gone.name) return stroke;
    const { region: _, ...rest } = stroke;
    return /** @type {Stroke} */ (rest);
  });
  return { ...document, strokes, regions: document.regions.filter((region) => region.id !== id) };
}

/** A name that no region has. @param {StudioDocument} document @param {string} stem */
export function freeName(document, stem) {
  const names = new Set(document.regions.map((region) => region.name));
  for (let number = 1; ; number++) if (!names.has(`${stem} ${number}`)) return `${stem} ${number}`;
}

/** @param {StudioDocument} document @param {Partial<Settings>} settings @returns {StudioDocument} */
export const withSettings = (document, settings) => ({ ...document, settings: { ...document.settings, ...settings } });

/**
 * Strokes and regions as in a stroke sheet.
 *
 * @param {StudioDocument} document
 * @param {(region: Region, point: Point) => boolean} contains
 * @param {(region: Region) => Point | null} anchor where the hold of a still region lies
 * @returns {{strokes: import("./strokes.js").SheetStroke[], ids: (string | null)[], regions: object[]}} `ids[i]` is the
 *     stroke or the still region that `strokes[i]` comes from
 */
export function documentToSheet(document, contains, anchor) {
  const { num_frames: numFrames } = document.settings;
  const strokes = [];
  const ids = [];
  for (const stroke of document.strokes) {
    for (const sheet of toSheets(stroke, numFrames)) {
      strokes.push(sheet);
      ids.push(stroke.id);
    }
  }
  const drawn = [...strokes];
  for (const region of document.regions) {
    const point = region.still ? anchor(region) : null;
    if (!point) continue;
    strokes.push({ kind: "hold", points: [point], region: region.name });
    ids.push(region.id);
  }
  const regions = document.regions.map(({ name, polygon, mask, rigid, order, still }) => {
    // A rigid region without a stroke is an error of the library: until it has one, it is an ordinary region.
    const moved = still || drawn.some((stroke) => strokeIsIn(stroke, name, (point) => contains({ id: "", name, polygon, mask, rigid, order }, point)));
    return { ...(polygon ? { polygon } : { mask }), name, ...(rigid && moved ? { rigid } : {}), ...(order === null ? {} : { order }) };
  });
  return { strokes, ids, regions };
}

/** @param {import("./strokes.js").SheetStroke} stroke @param {string} name @param {(point: Point) => boolean} contains */
function strokeIsIn(stroke, name, contains) {
  return stroke.region === undefined ? contains(stroke.points[0]) : stroke.region === name;
}

/** @param {any} sheet a stroke sheet, with the moves of its camera @returns {StudioDocument} */
export function documentFromSheet(sheet) {
  const numFrames = sheet.num_frames ?? DEFAULT_SETTINGS.num_frames;
  const regions = (sheet.regions ?? []).map((/** @type {any} */ region, /** @type {number} */ index) => ({
    id: newId(),
    name: region.name ?? `Region ${index + 1}`,
    ...(region.polygon ? { polygon: region.polygon } : { mask: region.mask }),
    rigid: region.rigid ?? false,
    order: region.order ?? null,
  }));
  const strokes = (sheet.strokes ?? []).map((/** @type {any} */ stroke) => {
    const named = typeof stroke.region === "number" && stroke.region > 0 ? { ...stroke, region: regions[stroke.region - 1]?.name } : stroke;
    return fromSheet(named, numFrames);
  });
  return { version: 1, strokes, regions, camera: cameraFromServer(sheet.camera), settings: { ...DEFAULT_SETTINGS, num_frames: numFrames, fps: sheet.fps ?? 8 } };
}

/**
 * Documents before and after the present one.
 *
 * An edit that goes on, like a drag, replaces the present document under the same `label` until `commit` ends it.
 */
export class History {
  /** @param {StudioDocument} present */
  constructor(present) {
    /** @type {StudioDocument[]} */
    this.past = [];
    this.present = present;
    /** @type {StudioDocument[]} */
    this.future = [];
    /** @type {string | null} */
    this.going = null;
  }

  /** @param {StudioDocument} document @param {string | null} [label] of an edit that goes on */
  change(document, label = null) {
    if (document === this.present) return;
    if (label === null || this.going !== label) {
      this.past = [...this.past, this.present].slice(-UNDO_DEPTH);
      this.going = label;
    }
    this.present = document;
    this.future = [];
  }

  commit() {
    this.going = null;
  }

  /** Ends an edit that goes on as if it had not begun. */
  abandon() {
    if (this.going === null) return;
    this.present = /** @type {StudioDocument} */ (this.past[this.past.length - 1]);
    this.past = this.past.slice(0, -1);
    this.going = null;
  }

  undo() {
    this.commit();
    const document = this.past[this.past.length - 1];
    if (!document) return false;
    this.future = [this.present, ...this.future];
    this.past = this.past.slice(0, -1);
    this.present = document;
    return true;
  }

  redo() {
    this.commit();
    const [document, ...rest] = this.future;
    if (!document) return false;
    this.past = [...this.past, this.present];
    this.future = rest;
    this.present = document;
    return true;
  }
}
