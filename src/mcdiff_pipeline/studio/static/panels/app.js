/** The layout of the editor: bar, rail of tools, stage, panel, timeline, status. */
import { Dialogs } from "./dialogs.js";
import { Rail, ToolOptions } from "./rail.js";
import { SidePanel } from "./side.js";
import { StageView } from "./stage_view.js";
import { StatusLine } from "./status_line.js";
import { Timeline } from "./timeline.js";
import { TopBar } from "./top_bar.js";
import { html } from "../vendor/preact-htm.js";

const TABS = /** @type {const} */ ([["timeline", "Timeline"], ["strokes", "Strokes"], ["versions", "Versions"]]); // prettier-ignore

/** @param {{editor: import("../editor.js").Editor}} props */
export function App({ editor }) {
  const { panel, tab, timeline } = editor.state;
  return html`
    <div class=${`studio${panel ? "" : " no-panel"}${timeline ? "" : " no-timeline"}`} data-tab=${tab}>
      <${TopBar} editor=${editor} />
      <${Rail} editor=${editor} />
      <main class="work">
        <${ToolOptions} editor=${editor} />
        <${StageView} editor=${editor} />
      </main>
      <div class="tabs" role="group" aria-label="Panels">
        ${TABS.map(([id, title]) => html`<button key=${id} aria-pressed=${tab === id} onClick=${() => editor.store.set({ tab: id })}>${title}</button>`)}
      </div>
      <${SidePanel} editor=${editor} />
      <${Timeline} editor=${editor} />
      <${StatusLine} editor=${editor} />
      <${Dialogs} editor=${editor} />
    </div>`;
}
