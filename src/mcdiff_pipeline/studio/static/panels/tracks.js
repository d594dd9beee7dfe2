/** The tracks of the shown version: over the picture, and as a list with a score for each stroke. */
import { paint } from "./fields.js";
import { Icon } from "../icons.js";
import { strokeColor } from "../layer.js";
import { verdict } from "../tracks.js";
import { html } from "../vendor/preact-htm.js";

/** @typedef {import("../editor.js").Editor} Editor */

/** @param {{editor: Editor}} props */
export function TrackList({ editor }) {
  const { showTracks } = editor.state;
  if (editor.lastFrame() < 1) return null;
  const tracks = editor.tracks.shown();
  return html`
    <section class="versions track-list">
      <h2>Tracks
        <button class="button small" aria-pressed=${showTracks} aria-keyshortcuts="T" title="Where each handle was to go, and where it is found in the frames (T)"
          onClick=${() => editor.tracks.toggle()}>${showTracks ? "Hide" : "Show"}</button></h2>
      ${!showTracks && html`<p class="nothing">Where each stroke was to go, and where its point is found.</p>`}
      ${showTracks && !tracks && html`<p class="nothing">${editor.tracks.why || (editor.state.render ? "They are found when the render has ended." : "Searching …")}</p>`}
      ${tracks && html`
        <ul>${tracks.strokes.map((track, index) => html`<${TrackItem} key=${index} track=${track} index=${index} near=${tracks.near} />`)}</ul>
        <p class="nothing">Dashed is asked for, solid is found. Up to ${tracks.near.toFixed(0)} px off counts as followed.</p>`}
    </section>`;
}

/** @param {{track: import("../tracks.js").Track, index: number, near: number}} props */
function TrackItem({ track, index, near }) {
  const { good, text } = verdict(track, near);
  return html`
    <li class="row track-item">
      <span class="swatch" ref=${paint("background", strokeColor(index))}>${index + 1}</span>
      <span class="what">${track.kind === "hold" ? "Hold" : "Move"}${track.start ? ` from ${track.start}` : ""}</span>
      <span class=${`verdict ${good ? "" : "off"}`}>${track.off !== null && html`<${Icon} name=${good ? "check" : "warn"} />`}${text}</span>
    </li>`;
}

/** @param {{editor: Editor}} props */
export function TrackLayer({ editor }) {
  const tracks = editor.tracks.shown();
  if (!tracks) return null;
  const { frame } = editor.state;
  // the searched frame next to the shown one
  const at = tracks.frames.reduce((best, number, i) => (Math.abs(number - frame) < Math.abs(tracks.frames[best] - frame) ? i : best), 0);
  return html`<g class="tracks-over">${tracks.strokes.map((track, index) => html`<${OneTrack} key=${index} editor=${editor} track=${track} at=${frame ? at : -1} color=${strokeColor(index)} />`)}</g>`;
}

/** @param {{editor: Editor, track: import("../tracks.js").Track, at: number, color: string}} props `at` is negative at frame 0 */
function OneTrack({ editor, track, at, color }) {
  const { view } = editor;
  const place = (/** @type {import("../geometry.js").Point | null} */ point) => point && view.toStage(point);
  /** The points of each part of a way without gaps. @param {(import("../geometry.js").Point | null)[]} points */
  const lines = (points) => {
    /** @type {string[][]} */
    const parts = [[]];
    for (const one of points.map(place)) {
      if (one) parts[parts.length - 1].push(`${one[0].toFixed(1)},${one[1].toFixed(1)}`);
      else parts.push([]);
    }
    return parts.filter((part) => part.length > 1).map((part) => part.join(" "));
  };
  const goals = [track.from, ...track.goals];
  const found = [track.from, ...track.found];
  const goal = at < 0 ? null : place(track.goals[at]);
  const spot = at < 0 ? null : place(track.found[at]);
  return html`
    ${lines(found).map((points) => html`<polyline class="case" points=${points} />`)}
    ${lines(goals).map((points) => html`<polyline class="goal" points=${points} />`)}
    ${lines(found).map((points) => html`<polyline class="found" points=${points} stroke=${color} />`)}
    ${goal && spot && html`<line class="miss" x1=${goal[0]} y1=${goal[1]} x2=${spot[0]} y2=${spot[1]} />`}
    ${goal && html`<circle class="goal" cx=${goal[0]} cy=${goal[1]} r="7" />`}
    ${spot && html`<circle class="spot" cx=${spot[0]} cy=${spot[1]} r="4" fill=${color} />`}`;
}
