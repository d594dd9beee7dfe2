// Opens the editor with the made-up server. `?width=&height=` set the size of the picture, `?photo=` its file.
import { mount } from "/editor.js";
import { FakeTransport } from "./transport.js";

const query = new URLSearchParams(location.search);
const number = (name, otherwise) => Number(query.get(name) ?? otherwise);
const photo = query.get("photo") ? await (await fetch(query.get("photo"))).blob() : null;
const sheet = query.get("sheet") ? await (await fetch(query.get("sheet"))).json() : null;

window.open = async (options = {}) => {
  window.editor?.destroy();
  const kept = window.transport?.session === options.session ? window.transport : null;
  window.transport = new FakeTransport({ photo, sheet, ...options });
  if (kept) Object.assign(window.transport, { nodes: kept.nodes, document: kept.document, documentRev: kept.documentRev });
  window.editor = await mount(document.getElementById("page"), window.transport, { onLeave() {} });
};
await window.open({ width: number("width", 640), height: number("height", 480), session: query.get("session") ?? "0".repeat(32), name: query.get("name") ?? "cat.jpg" });
document.body.dataset.ready = "yes";
