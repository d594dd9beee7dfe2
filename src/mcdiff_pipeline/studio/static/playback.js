/**
 * Plays the frames of the shown version in a loop. Drawing goes back to the frame from which it was started.
 */
export class Playback {
  /** @param {import("./editor.js").Editor} editor */
  constructor(editor) {
    this.editor = editor;
    this.anchor = 0;
    this.shownAt = 0;
    this.request = 0;
  }

  toggle() {
    if (this.editor.store.state.playing) this.pause();
    else this.play();
  }

  play() {
    const { state } = this.editor.store;
    if (this.editor.lastFrame() < 1 || state.playing) return;
    this.anchor = state.frame >= this.editor.lastFrame() ? 0 : state.frame;
    this.shownAt = performance.now();
    this.editor.store.set({ playing: true, follow: false, frame: this.anchor });
    this.request = requestAnimationFrame(this.tick);
  }

  /** Stops at the frame that is shown. */
  pause() {
    cancelAnimationFrame(this.request);
    if (!this.editor.store.state.playing) return;
    this.editor.store.set({ playing: false });
    this.editor.live.requestFlow();
  }

  /** Stops at the frame where the user was. */
  rewind() {
    if (!this.editor.store.state.playing) return;
    cancelAnimationFrame(this.request);
    this.editor.store.set({ playing: false, frame: Math.min(this.anchor, this.editor.lastFrame()) });
    this.editor.live.requestFlow();
  }

  /** @param {number} now */
  tick = (now) => {
    const { editor } = this;
    const { state } = editor.store;
    if (!state.playing) return;
    this.request = requestAnimationFrame(this.tick);
    const period = 1000 / editor.history.present.settings.fps;
    if (now - this.shownAt < period) return;
    const last = editor.lastFrame();
    const next = state.frame >= last ? 0 : state.frame + 1;
    for (let ahead = 0; ahead < 6; ahead++) editor.loadFrame((next + ahead) % (last + 1));
    if (!editor.frameReady(next)) return; // shown when it is decoded
    this.shownAt = Math.max(this.shownAt + period, now - period);
    editor.store.set({ frame: next });
  };
}
