/** The tools and their options. */
import { CompareBar } from "./compare_bar.js";
import { Icon } from "../icons.js";
import { html } from "../vendor/preact-htm.js";

/** @param {{editor: import("../editor.js").Editor}} props */
export function Rail({ editor }) {
  return html`
    <nav class="rail" aria-label="Tools">
      ${Object.values(editor.tools).map((tool) => html`
        <button key=${tool.id} class="tool" aria-pressed=${editor.state.tool === tool.id} title=${`${tool.title} (${tool.key})`} aria-label=${tool.title}
          aria-keyshortcuts=${tool.key} onClick=${() => editor.setTool(tool.id)}>
          <${Icon} name=${tool.id} /><span class="tool-name">${tool.title}</span>
        </button>`)}
    </nav>`;
}

/** One line above the picture, always there, so that nothing jumps. @param {{editor: import("../editor.js").Editor}} props */
export function ToolOptions({ editor }) {
  const { compare } = editor.state;
  if (compare) return html`<${CompareBar} editor=${editor} comparison=${compare} />`;
  return html`
    <div class="options" role="toolbar" aria-label=${`${editor.tool.title} options`}>
      <b>${editor.tool.title}</b>
      <span class="options-controls">${editor.tool.options?.()}</span>
      <span class="hint" title=${editor.tool.hint}>${editor.tool.hint}</span>
    </div>`;
}
