/** Icons of 20 x 20 pixels, drawn with lines of the text's color. */
import { html } from "./vendor/preact-htm.js";

const PATHS = /** @type {Record<string, string>} */ ({
  select: "M5 3l10.5 6.5-4.6 1.2-2 4.6z",
  move: "M3.5 15.5C6 9 9 7.5 15.5 6.5M12 3.5l3.8 3-2.6 4",
  hold: "M10 4a6 6 0 1 0 0 12a6 6 0 1 0 0-12M10 9a1 1 0 1 0 0 2a1 1 0 1 0 0-2",
  still: "M6 9V7a4 4 0 0 1 8 0v2M4.5 9h11v7.5h-11z",
  region: "M4 6.5C6 2.5 12 3 15 5s2.5 7.5 0 10-8 2-10.5-1S2.5 9.5 4 6.5z",
  eraser: "M7.5 16.5h9M3.5 12.5l8-8.5 5 4.700-7.300 7.800H7z",
  undo: "M7.5 5L4 8.5 7.5 12M4 8.5h8a4 4 0 0 1 0 8H9",
  redo: "M12.5 5L16 8.5 12.5 12M16 8.5H8a4 4 0 0 0 0 8h3",
  play: "M6.5 4l9 6-9 6z",
  pause: "M7 4.5v11M13 4.5v11",
  first: "M5 4.5v11M15 4.5L8 10l7 5.5z",
  last: "M15 4.5v11M5 4.5L12 10l-7 5.5z",
  before: "M12.5 4.5L7 10l5.5 5.5",
  after: "M7.5 4.5L13 10l-5.5 5.5",
  down: "M5.5 8l4.5 4.5L14.5 8",
  flow: "M3 7c3-3 5 3 8 0s4-1.5 6-1M3 13c3-3 5 3 8 0s4-1.5 6-1",
  menu: "M4 5.5h12M4 10h12M4 14.500h12",
  more: "M5 10h.01M10 10h.01M15 10h.01",
  plus: "M10 4.5v11M4.5 10h11",
  minus: "M4.5 10h11",
  fit: "M4 8V4h4M12 4h4v4M16 12v4h-4M8 16H4v-4",
  bin: "M4.5 6h11M8 6V4h4v2M6 6l.7 10.5h6.600L14 6",
  star: "M10 3.5l2 4.300 4.700.5-3.5 3.200 1 4.600L10 13.700l-4.200 2.4 1-4.600-3.5-3.200 4.700-.5z",
  panel: "M3.5 4.5h13v11h-13zM12 4.5v11",
  help: "M7.5 7.5a2.5 2.5 0 1 1 3.5 2.300c-.7.4-1 .8-1 1.700M10 14.5v.01",
  export: "M10 3.5v8.5M6.5 9l3.5 3.5L13.5 9M4 14.5v2h12v-2",
  front: "M4 10l6-5 6 5M4 15l6-5 6 5",
  back: "M4 5l6 5 6-5M4 10l6 5 6-5",
  close: "M5 5l10 10M15 5L5 15",
  check: "M4.5 10.5l3.5 3.5 7.5-8",
  warn: "M10 4l7 12H3zM10 8.5v3.5M10 14v.01",
  settings: "M4 6h6M14 6h2M12 4.5v3M4 13.5h2M10 13.5h6M8 12v3",
  picture: "M3.5 4.5h13v11h-13zM3.5 13l4-3.5 3 2.5 2.5-2 3.5 3",
  steer: "M4 16V9a4 4 0 0 1 4-4h7M12 2l3.5 3L12 8",
  stop: "M6 6h8v8H6z",
});

/** @param {{name: string}} props */
export const Icon = ({ name }) => html`<svg class="icon" viewBox="0 0 20 20" width="20" height="20" aria-hidden="true"><path d=${PATHS[name]} /></svg>`;
