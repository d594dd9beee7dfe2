/**
 * Where the handles of the shown version were to go, and where they are found in its frames.
 *
 * @typedef {import("./geometry.js").Point} Point
 * @typedef {{kind: "move" | "hold", start: number, from: Point | null, off: number | null, goals: (Point | null)[], found: (Point | null)[]}} Track
 *     `goals[i]` and `found[i]` are places at `frames[i]`; `off` is the mean distance between them
 * @typedef {{node: string, last: number, near: number, frames: number[], strokes: Track[]}} FoundTracks in pixels of the picture;
 *     within `near` a handle counts as found where it was to be
 */
import { setPreference } from "./storage.js";

export class Tracks {
  /** @param {import("./editor.js").Editor} editor */
  constructor(editor) {
    this.editor = editor;
    /** @type {string | null} what is being searched, or could not be */
    this.asked = null;
    this.why = "";
  }

  toggle() {
    const showTracks = !this.editor.state.showTracks;
    this.asked = null;
    this.editor.store.set({ showTracks });
    setPreference("tracks", showTracks ? "on" : "off");
    if (showTracks && this.editor.lastFrame() < 1) this.editor.say("Render first: tracks are found in frames.");
  }

  /** The tracks of the shown version, or null if they are not there, or not wanted. @returns {FoundTracks | null} */
  shown() {
    const { tracks, showTracks, node } = this.editor.state;
    return showTracks && tracks?.node === node ? tracks : null;
  }

  /** Searches when a version is shown whose tracks are not there, and that is not being rendered. */
  update() {
    const { editor } = this;
    const { showTracks, node, render, connection, tracks } = editor.state;
    const last = editor.lastFrame();
    if (!showTracks || !node || last < 1 || connection !== "open" || render?.node === node) return;
    const key = `${node} ${last}`;
    if (this.asked === key || (tracks?.node === node && tracks.last === last)) return;
    this.asked = key;
    this.why = "";
    editor.transport.tracks(node).then(
      (found) => this.asked === key && editor.store.set({ tracks: found }),
      (error) => {
        if (this.asked !== key) return;
        this.why = error.message;
        editor.store.schedule();
      },
    );
  }
}

/** In words. @param {Track} track @param {number} near */
export function verdict({ off, kind }, near) {
  if (off === null) return { good: true, text: "cannot be followed: its place looks alike everywhere" };
  const far = `${off.toFixed(off < 10 ? 1 : 0)} px off`;
  return off <= near ? { good: true, text: `${kind === "hold" ? "stays" : "followed"}, ${far}` } : { good: false, text: far };
}
