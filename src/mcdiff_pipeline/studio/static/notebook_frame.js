/**
 * Shows the editor in a notebook, in a frame of its own: styles and keys of the notebook and of the editor do not meet, and
 * the editor is laid out for the width of the cell.
 *
 * @typedef {{get: (name: string) => any, set: (name: string, value: unknown) => void, save_changes: () => void,
 *     on: (event: string, handler: (...details: any[]) => void) => void, off: (event: string, handler: (...details: any[]) => void) => void,
 *     send: (content: object, callbacks?: object, buffers?: (ArrayBuffer | ArrayBufferView)[]) => void}} Model as anywidget has it
 * @typedef {{scripts: [string, string][], style: string}} Files sources of modules by name, each after those that it imports
 */
const PAGE = '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>mcdiff studio</title></head><body><div id="page"></div></body></html>';

/**
 * @param {{model: Model, el: HTMLElement}} context
 * @param {Files} files
 * @returns {() => void} ends it
 */
export function showInFrame({ model, el }, { scripts, style }) {
  const addresses = new Map();
  for (const [name, source] of scripts) {
    const linked = source.replace(/"mcdiff:([^"]+)"/g, (_, other) => JSON.stringify(addresses.get(other)));
    addresses.set(name, URL.createObjectURL(new Blob([linked], { type: "text/javascript" })));
  }
  const entry = scripts[scripts.length - 1][0];
  const frame = Object.assign(document.createElement("iframe"), { title: "mcdiff studio", srcdoc: PAGE, allow: "fullscreen" });
  Object.assign(frame.style, { display: "block", width: "100%", border: "0", borderRadius: "6px" });
  const resize = () => (frame.style.height = `${model.get("height")}px`);
  resize();
  /** @type {(() => void) | undefined} */
  let stop;
  // again when the notebook moves the cell, which empties the frame
  frame.addEventListener("load", () => {
    stop?.();
    const page = /** @type {Window & {startStudio?: (model: Model, style: string) => () => void}} */ (frame.contentWindow);
    const script = Object.assign(page.document.createElement("script"), { type: "module", src: addresses.get(entry) });
    script.addEventListener("load", () => (stop = page.startStudio?.(model, style)));
    page.document.head.append(script);
  });
  const theme = el.ownerDocument.body.dataset.jpThemeLight;
  if (theme) frame.style.colorScheme = theme === "true" ? "light" : "dark";
  model.on("change:height", resize);
  el.append(frame);
  return () => {
    model.off("change:height", resize);
    stop?.();
    frame.remove();
    for (const address of addresses.values()) URL.revokeObjectURL(address);
  };
}
