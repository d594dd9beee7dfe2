// The model of anywidget, as far as a widget sees it, and the page that shows the widget.
const handlers = {};
const changes = {};
const state = await (await fetch("/state")).json();
const pack = (data, buffers) => {
  const header = new TextEncoder().encode(JSON.stringify({ data, sizes: buffers.map((one) => one.byteLength) }));
  return new Blob([new Uint32Array([header.length]), header, ...buffers]);
};
const post = (data, buffers = []) => (sending = sending.then(() => fetch("/send", { method: "POST", body: pack(data, buffers) })));
let sending = Promise.resolve();
const emit = (event, ...details) => (handlers[event] ?? []).forEach((handler) => handler(...details));
const model = {
  get: (name) => state[name],
  set(name, value) {
    state[name] = changes[name] = value;
    emit(`change:${name}`);
  },
  save_changes() {
    if (!Object.keys(changes).length) return;
    post({ method: "update", state: { ...changes }, buffer_paths: [] });
    for (const name of Object.keys(changes)) delete changes[name];
  },
  on: (event, handler) => (handlers[event] ??= []).push(handler),
  off: (event, handler) => (handlers[event] = handlers[event].filter((one) => one !== handler)),
  send: (content, callbacks, buffers = []) => post({ method: "custom", content }, buffers),
};
const source = await (await fetch("/widget.js")).text();
const widget = (await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })))).default;
window.show = () => (window.hide = widget.render({ model, el: document.getElementById("output") }));
window.show();
while (true) {
  const answer = new DataView(await (await fetch("/receive")).arrayBuffer());
  const length = answer.getUint32(0, true);
  const { data, sizes } = JSON.parse(new TextDecoder().decode(new DataView(answer.buffer, 4, length)));
  let at = 4 + length;
  const buffers = sizes.map((size) => new DataView(answer.buffer, (at += size) - size, size));
  if (data.method === "custom") emit("msg:custom", data.content, buffers);
  if (data.method === "update") for (const [name, value] of Object.entries(data.state)) (state[name] = value), emit(`change:${name}`);
}
