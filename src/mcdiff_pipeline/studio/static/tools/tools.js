/**
 * The tools, in the order of the rail.
 *
 * @typedef {import("../stage.js").Pen} Pen
 * @typedef {{
 *   id: string, key: string, title: string, hint: string, cursor: string,
 *   down: (pen: Pen) => void, move?: (pens: Pen[]) => void, up?: (pen: Pen) => void, cancel?: () => void, hover?: (pen: Pen) => void,
 *   keydown?: (event: KeyboardEvent) => boolean, leave?: () => void,
 *   options?: () => any, overlay?: () => any,
 * }} Tool `options` is shown above the picture, `overlay` over it; `keydown` says whether it took the key
 */
import { cameraTool } from "./camera.js";
import { eraserTool } from "./eraser.js";
import { holdTool } from "./hold.js";
import { jointsTool } from "./joints.js";
import { moveTool } from "./move.js";
import { pullTool } from "./pull.js";
import { regionTool } from "./region.js";
import { selectTool } from "./select.js";
import { stillTool } from "./still.js";

/** @param {import("../editor.js").Editor} editor @returns {Record<string, Tool>} */
export function makeTools(editor) {
  const tools = [selectTool, moveTool, holdTool, stillTool, regionTool, cameraTool, jointsTool, eraserTool, pullTool].map((make) => make(editor));
  return Object.fromEntries(tools.map((tool) => [tool.id, tool]));
}
