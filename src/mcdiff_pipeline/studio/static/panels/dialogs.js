/** Dialogs: help, settings, rename, loading strokes, removing a version. */
import { KEY_LIST } from "../keys.js";
import { NumberField } from "./fields.js";
import { setPreference } from "../storage.js";
import { subtreeOf, titleOf } from "../versions.js";
import { html, useEffect, useRef, useState } from "../vendor/preact-htm.js";

/** Seeds that are rendered at a time at most. */
const SEEDS = 8;

/** @typedef {import("../editor.js").Editor} Editor */

/** @param {{editor: Editor}} props */
export function Dialogs({ editor }) {
  const { dialog } = editor.state;
  if (!dialog) return null;
  const [kind, id] = dialog.split(" ");
  const content = { help: Help, settings: Settings, rename: Rename, import: Import, remove: Remove, best: Best }[kind];
  return html`<${content} key=${dialog} editor=${editor} id=${id} />`;
}

/** @param {{editor: Editor, title: string, children?: any}} props */
function Dialog({ editor, title, children }) {
  const element = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useEffect(() => {
    const dialog = /** @type {HTMLDialogElement} */ (element.current);
    const before = /** @type {HTMLElement | null} */ (document.activeElement);
    dialog.showModal();
    return () => {
      dialog.close();
      before?.focus?.();
    };
  }, []);
  const close = () => editor.store.set({ dialog: null });
  return html`
    <dialog ref=${element} aria-labelledby="dialog-title" onClose=${() => element.current && close()} onClick=${(/** @type {any} */ event) => event.target === element.current && close()}>
      <form method="dialog" onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
        <header><h2 id="dialog-title">${title}</h2><button type="button" class="button small" onClick=${close}>Close</button></header>
        ${children}
      </form>
    </dialog>`;
}

/** @param {{editor: Editor}} props */
function Help({ editor }) {
  /** @param {any} event */
  const letters = (event) => {
    editor.store.set({ letters: event.target.checked });
    setPreference("letters", event.target.checked ? "on" : "off");
  };
  return html`
    <${Dialog} editor=${editor} title="How it works">
      <ol class="steps">
        <li><b>Draw.</b> With Move, drag from a point of the picture to where it should go. With Hold, click what must stay. Colors show the motion at once.</li>
        <li><b>Render.</b> The frames appear in the timeline while they are made. You can stop at any time; what is there is kept.</li>
        <li><b>Go back and change it.</b> Pick a frame in the timeline, draw there, and render again: it goes on from that frame, as a new version.</li>
        <li><b>Things that must not bend</b> get a region, and are made rigid in the list.</li>
      </ol>
      <h3>Keys</h3>
      <dl class="keys">${KEY_LIST.map(([keys, what]) => html`<div key=${keys}><dt>${keys}</dt><dd>${what}</dd></div>`)}</dl>
      <label class="check"><input type="checkbox" checked=${editor.state.letters} onChange=${letters} /> Single letters are keys</label>
    <//>`;
}

/** @param {{editor: Editor}} props */
function Settings({ editor }) {
  const { settings } = editor.document;
  const { model, limits } = editor.state;
  const defaults = model?.defaults ?? {};
  const multiple = model?.multiple ?? 8;
  const set = (/** @type {any} */ changes) => editor.setSettings(changes);
  return html`
    <${Dialog} editor=${editor} title="Settings of a render">
      <div class="fields">
        <label class="number wide-field">Frames appear
          <select value=${settings.size} onChange=${(/** @type {any} */ event) => set({ size: event.target.value })}>
            <option value="preview">at once, small (full size later)</option><option value="picture">in full size, slower</option>
          </select></label>
        <${NumberField} label="Frames" value=${settings.num_frames} min=${2} max=${limits?.frames ?? 256} onChange=${(/** @type {number} */ num_frames) => set({ num_frames })} />
        <${NumberField} label="Frames per second" value=${settings.fps} min=${1} max=${60} onChange=${(/** @type {number} */ fps) => set({ fps })} />
        <${NumberField} label="Denoising steps" value=${settings.steps ?? defaults.steps ?? 2} min=${1} max=${50} onChange=${(/** @type {number} */ steps) => set({ steps })} />
        <${NumberField} label="Guidance" value=${settings.guidance ?? defaults.guidance ?? 1} min=${0} max=${20} step=${0.1} onChange=${(/** @type {number} */ guidance) => set({ guidance })} />
        <${NumberField} label="Seed" value=${settings.seed} min=${0} max=${2147483647} onChange=${(/** @type {number} */ seed) => set({ seed })} />
        <${NumberField} label="Working size" value=${settings.work} min=${multiple} max=${limits?.shorter_side ?? 512} empty="as it fits" onChange=${(/** @type {number | null} */ work) => set({ work: work && Math.max(multiple, Math.round(work / multiple) * multiple) })} />
      </div>
      <p>The working size is the shorter side, in pixels, at which the motion is computed; left empty, it is the one that stretches the picture least. The frames have the picture's own size all the same.
        Other settings than those of the shown version make a new version from frame 0.</p>
      <button type="button" class="button" onClick=${() => set({ steps: null, guidance: null, seed: 0, work: null, size: "preview" })}>Use the model's own</button>
    <//>`;
}

/** @param {{editor: Editor}} props */
function Rename({ editor }) {
  const input = useRef(/** @type {HTMLInputElement | null} */ (null));
  useEffect(() => input.current?.select(), []);
  const save = async () => {
    const name = input.current?.value.trim();
    if (!name) return;
    try {
      await editor.transport.rename(name);
      editor.store.set({ name, dialog: null });
    } catch (error) {
      editor.say(/** @type {Error} */ (error).message);
    }
  };
  return html`
    <${Dialog} editor=${editor} title="Rename">
      <label class="number wide-field">Name <input ref=${input} type="text" maxlength="100" defaultValue=${editor.state.name} onKeyDown=${(/** @type {KeyboardEvent} */ event) => event.key === "Enter" && save()} /></label>
      <button type="button" class="button primary" onClick=${save}>Rename</button>
    <//>`;
}

/** @param {{editor: Editor}} props */
function Import({ editor }) {
  /** @param {any} event */
  const load = async (event) => {
    const [file] = event.target.files;
    editor.store.set({ dialog: null });
    if (file) await editor.importFile(file);
  };
  return html`
    <${Dialog} editor=${editor} title="Load strokes">
      <p>From a stroke sheet (.json), or a video that was exported here or made by mcdiff generate. The strokes are scaled to this picture and take the place of those that are drawn; undo brings them back.</p>
      <input type="file" aria-label="Stroke sheet or video" accept=".json,.mp4,.webm,.gif,.mkv,application/json,video/*,image/gif" onChange=${load} />
    <//>`;
}

/** @param {{editor: Editor, id: string}} props */
function Remove({ editor, id }) {
  const { nodes } = editor.state;
  const [, ...below] = subtreeOf(nodes, id);
  const dear = below.filter((node) => node.star || node.name).map((node) => titleOf(nodes, node.id));
  const remove = async () => {
    const byKey = document.activeElement?.matches(":focus-visible");
    editor.store.set({ dialog: null });
    try {
      const { removed } = await editor.transport.deleteNode(id);
      editor.setNodes([...editor.state.nodes.values()].filter((node) => !removed.includes(node.id)));
      editor.draw();
      // what had the focus is gone, and the tree has it instead
      if (byKey && document.activeElement === document.body) /** @type {HTMLElement | null} */ (editor.element.querySelector(".tree [tabindex='0']"))?.focus();
    } catch (error) {
      editor.say(/** @type {Error} */ (error).message);
    }
  };
  return html`
    <${Dialog} editor=${editor} title="Remove this version?">
      <p>${titleOf(nodes, id)}: ${below.length ? `its frames and the ${below.length} ${below.length === 1 ? "version" : "versions"} made from it are removed, too.` : "its frames are removed."} This cannot be undone.</p>
      ${dear.length > 0 && html`<p>Among them: ${dear.join(", ")}.</p>`}
      <button type="button" class="button stop" onClick=${remove}>Remove</button>
    <//>`;
}

/** @param {{editor: Editor, id: string}} props */
function Best({ editor, id }) {
  const { nodes, limits } = editor.state;
  const room = Math.max(0, Math.min(SEEDS, (limits?.nodes ?? 64) - nodes.size));
  const [number, setNumber] = useState(Math.min(4, room));
  const begin = () => {
    editor.store.set({ dialog: null });
    editor.live.best(id, number);
  };
  return html`
    <${Dialog} editor=${editor} title=${`Best of several: ${titleOf(nodes, id)}`}>
      <p>The same strokes with other seeds, rendered one after the other as versions of their own. Then each says how far what is under the strokes is from where it should be; the best is on top.</p>
      ${room
        ? html`<div class="fields"><${NumberField} label="Seeds" value=${number} min=${1} max=${room} onChange=${setNumber} />
            <button type="button" class="button primary" onClick=${begin}>Render them</button></div>`
        : html`<p>This picture has as many versions as possible. Remove some first.</p>`}
    <//>`;
}
