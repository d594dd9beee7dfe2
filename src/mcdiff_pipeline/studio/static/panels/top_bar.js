/** Name, undo, flow, length, render, export. */
import { LOOKING } from "../tools/region.js";
import { NumberField } from "./fields.js";
import { Menu } from "./menu.js";
import { Icon } from "../icons.js";
import { html } from "../vendor/preact-htm.js";
import { setPreference } from "../storage.js";

const SAVED = { saved: "Saved", saving: "Saving …", unsaved: "Not saved", disk: "Disk full" };

/** @param {{editor: import("../editor.js").Editor}} props */
export function TopBar({ editor }) {
  const { state, history } = editor;
  const { settings } = editor.document;
  return html`
    <header class="bar">
      <${FileMenu} editor=${editor} />
      <span class=${`saved ${state.saved}`}>${SAVED[state.saved]}</span>
      <div class="group" role="group" aria-label="History">
        <button class="icon-button" title="Undo (Ctrl Z)" aria-label="Undo" disabled=${!history.past.length} onClick=${() => editor.undo()}><${Icon} name="undo" /></button>
        <button class="icon-button" title="Redo (Ctrl Shift Z)" aria-label="Redo" disabled=${!history.future.length} onClick=${() => editor.redo()}><${Icon} name="redo" /></button>
      </div>
      <button class="toggle" aria-pressed=${state.showFlow} title="Show the motion before it is rendered (F)" aria-label="Flow" aria-keyshortcuts="F"
        disabled=${state.model?.state === "ready" && !state.model.has_flow} onClick=${() => editor.toggleFlow()}><${Icon} name="flow" /><span class="wide">Flow</span></button>
      <${NumberField} label="Frames" value=${settings.num_frames} min=${2} max=${state.limits?.frames ?? 256} onChange=${(/** @type {number} */ num_frames) => editor.setSettings({ num_frames })} />
      <${NumberField} label="fps" value=${settings.fps} min=${1} max=${60} onChange=${(/** @type {number} */ fps) => editor.setSettings({ fps })} />
      <button class="icon-button" title="More settings" aria-label="More settings" onClick=${() => editor.store.set({ dialog: "settings" })}><${Icon} name="settings" /></button>
      <span class="space"></span>
      <${RenderButton} editor=${editor} />
      <${ExportMenu} editor=${editor} />
      <button class="icon-button wide" title="Panel" aria-label="Show the panel" aria-pressed=${state.panel} onClick=${() => togglePanel(editor)}><${Icon} name="panel" /></button>
      <button class="icon-button wide" title="Help (?)" aria-label="Help" onClick=${() => editor.store.set({ dialog: "help" })}><${Icon} name="help" /></button>
    </header>`;
}

/** @param {import("../editor.js").Editor} editor */
function togglePanel(editor) {
  editor.store.set({ panel: !editor.state.panel });
  setPreference("panel", editor.state.panel ? "on" : "off");
}

/** @param {{editor: import("../editor.js").Editor}} props */
function RenderButton({ editor }) {
  const { render, model, connection } = editor.state;
  const plan = editor.live.plan();
  if (render) return html`<${RenderingButtons} editor=${editor} render=${render} plan=${plan} />`;
  const name = { new: "Render", branch: `Render from ${plan.at}`, continue: "Go on", none: "Render" }[plan.kind];
  const label = plan.kind === "branch" ? html`<span class="wide">Render from ${plan.at}</span><span class="narrow">From ${plan.at}</span>` : name;
  const ready = model?.state === "ready" && connection === "open";
  const why = plan.kind === "none" ? plan.why : ready ? "Make the frames (Enter)" : "Waiting for the model";
  return html`
    <div class="group render-group">
      <button class="button primary" aria-disabled=${plan.kind === "none" || !ready} aria-label=${name} title=${why} onClick=${() => editor.live.render()}><${Icon} name="play" />${label}</button>
    </div>`;
}

/** @param {{editor: import("../editor.js").Editor, render: import("../live.js").Render, plan: import("../live.js").Plan}} props */
function RenderingButtons({ editor, render, plan }) {
  const { live } = editor;
  const steers = !render.endless && live.canSteer();
  const queues = live.canQueue();
  return html`
    <div class=${`group render-group${queues ? " crowded" : ""}`}>
      ${steers && html`<button class="button primary" title="Use the changed strokes from the next frame on, as a version of its own (Enter)" onClick=${() => live.steer()}><${Icon} name="steer" />Steer</button>`}
      ${queues && html`<button class=${steers ? "icon-button" : "button"} aria-label="Queue" title=${`${plan.kind === "branch" ? `Render from frame ${plan.at}` : "Render from the start"} after this render (Shift Enter)`} onClick=${() => live.render()}><${Icon} name="queue" />${!steers && html`<span class="wide">Queue</span>`}</button>`}
      ${!render.enlarging && !render.endless && html`<button class="icon-button" aria-pressed=${render.paused} aria-label=${render.paused ? "Go on rendering" : "Pause the render"} title=${render.paused ? "Go on (P)" : "Pause (P)"} disabled=${render.stopping} onClick=${() => live.pause()}><${Icon} name=${render.paused ? "play" : "pause"} /></button>`}
      <button class="button stop" title="Stop (Esc)" disabled=${render.stopping} onClick=${() => live.stop()} aria-label=${render.endless ? "Done" : "Stop"}><${Icon} name="stop" /><span class="stop-name">${render.endless ? "Done" : "Stop"}</span></button>
    </div>`;
}

/** @param {{editor: import("../editor.js").Editor}} props */
function FileMenu({ editor }) {
  const items = [
    ...(editor.onLeave ? [{ label: "All pictures …", run: editor.onLeave }] : []),
    { label: "Settings of a render …", run: () => editor.store.set({ dialog: "settings" }) },
    { label: "Rename …", run: () => editor.store.set({ dialog: "rename" }) },
    { label: "Load strokes from a file …", run: () => editor.store.set({ dialog: "import" }) },
    { label: "Save this session as a file", run: () => editor.download("session.zip", `${stem(editor)}.zip`, "The session") },
    { label: "Remove all strokes and regions", run: () => editor.edit({ ...editor.document, strokes: [], regions: [] }) },
    { label: "Keys and help", run: () => editor.store.set({ dialog: "help" }) },
  ];
  return html`<${Menu} class="file" label=${html`<span class="narrow"><${Icon} name="menu" /></span><span class="name">${editor.state.name}</span><${Icon} name="down" />`} name=${`File: ${editor.state.name}`} items=${items} />`;
}

/** @param {import("../editor.js").Editor} editor */
export const stem = (editor) => editor.state.name.replace(/\.\w+$/, "").replace(/[^\p{L}\p{N}_-]+/gu, "-") || "studio";

/** @param {{editor: import("../editor.js").Editor}} props */
function ExportMenu({ editor }) {
  const { node, busy, nodes } = editor.state;
  const current = node ? nodes.get(node) : undefined;
  const some = current && current.at + current.frames > 0;
  /** @param {string} file @param {string} ending @param {string} label */
  const item = (file, ending, label) => ({ label, run: () => editor.download(`nodes/${node}/${file}`, `${stem(editor)}${ending}`, label.split(",")[0]) });
  const items = some
    ? [
        item("clip.mp4?size=output", ".mp4", "Video, MP4"),
        item("clip.webm?size=output", ".webm", "Video, WebM"),
        item("clip.gif?size=working", ".gif", "GIF, small"),
        item("frames.zip?size=output", "-frames.zip", "Frames, PNG files"),
        item("contact.png", "-sheet.png", "Contact sheet"),
        item("sheet.json", ".json", "Stroke sheet, JSON"),
      ]
    : [];
  const label = html`<${Icon} name="export" /><span class="wide">${busy && busy !== LOOKING ? "Making it …" : "Export"}</span>`;
  return html`<${Menu} class="export" align="end" label=${label} name="Export" items=${items} disabled=${busy !== null} empty="Render first; then the video can be exported." note=${some ? "Videos and frames have the picture's own size. Missing ones are made first." : ""} />`;
}
