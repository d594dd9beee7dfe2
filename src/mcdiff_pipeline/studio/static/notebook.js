/**
 * The editor in the frame of a notebook's widget. Requests and live messages go to Python as messages of the widget, and
 * what is drawn and shown becomes its state.
 *
 * @typedef {import("./notebook_frame.js").Model} Model
 */
import { mount } from "./editor.js";
import { Api, ApiError, SessionTransport } from "./transport.js";
import { newId } from "./strokes.js";
import { render } from "./vendor/preact-htm.js";

const TELL_AFTER_MS = 150;
/** Made at once: a frame that the notebook has emptied makes no objects of kinds that it has not made before. */
const ENCODER = new TextEncoder();

/** Messages of the widget, by the request or the connection that they belong to. */
class Channel {
  /** @param {Model} model */
  constructor(model) {
    this.model = model;
    /** @type {Map<string, (content: any, buffers: DataView[]) => void>} */
    this.receivers = new Map();
    model.on("msg:custom", this.receive);
  }

  receive = (/** @type {any} */ content, /** @type {DataView[]} */ buffers) => this.receivers.get(content.id)?.(content, buffers);

  /** @param {(content: any, buffers: DataView[]) => void} receiver @returns {string} its id */
  add(receiver) {
    const id = newId();
    this.receivers.set(id, receiver);
    return id;
  }

  /** @param {object} content @param {ArrayBuffer[]} [buffers] */
  send(content, buffers) {
    this.model.send(content, undefined, buffers);
  }

  close() {
    this.model.off("msg:custom", this.receive);
  }
}

/** What a websocket is for `SessionTransport`. */
class WidgetSocket {
  /** @param {Channel} channel @param {string} path */
  constructor(channel, path) {
    this.channel = channel;
    /** @type {number} */
    this.readyState = WebSocket.CONNECTING;
    /** @type {(() => void) | null} */
    this.onopen = null;
    /** @type {((event: {data: ArrayBuffer}) => void) | null} */
    this.onmessage = null;
    /** @type {((event: {code: number, reason: string}) => void) | null} */
    this.onclose = null;
    this.id = channel.add((content, [buffer]) => this.receive(content, buffer));
    channel.send({ kind: "open", id: this.id, path });
    queueMicrotask(() => {
      this.readyState = WebSocket.OPEN;
      this.onopen?.();
    });
  }

  /** @param {any} content @param {DataView} buffer */
  receive(content, buffer) {
    if (content.kind === "message") return this.onmessage?.({ data: copied(buffer) });
    this.readyState = WebSocket.CLOSED;
    this.channel.receivers.delete(this.id);
    this.onclose?.({ code: content.code, reason: content.reason });
  }

  /** @param {string} text */
  send(text) {
    this.channel.send({ kind: "text", id: this.id, text });
  }

  close() {
    this.readyState = WebSocket.CLOSED;
    this.channel.receivers.delete(this.id);
    this.channel.send({ kind: "close", id: this.id });
  }
}

class WidgetApi extends Api {
  /** @param {Channel} channel */
  constructor(channel) {
    super("", null);
    this.channel = channel;
  }

  /** @param {string} path @param {RequestInit} [options] */
  async request(path, { method = "GET", body, headers } = {}) {
    // a text goes at once: a frame that is being removed runs nothing that waits
    const buffers = !body ? [] : [typeof body === "string" ? ENCODER.encode(body).buffer : await new Response(body).arrayBuffer()];
    const { status, buffer } = await new Promise((resolve) => {
      const id = this.channel.add((content, [buffer]) => {
        this.channel.receivers.delete(id);
        resolve({ status: content.status, buffer });
      });
      this.channel.send({ kind: "request", id, method, path: `/api/${path}`, headers: headers ?? {} }, buffers);
    });
    const content = buffer ? copied(buffer) : null;
    if (status < 300) return new Response(status === 204 ? null : content, { status });
    const answer = content ? await new Response(content).json().catch(() => ({})) : {};
    throw new ApiError(status, answer.why ?? `Python answered with an error (${status}).`, answer.code);
  }

  /** @param {string} path */
  socket(path) {
    return /** @type {WebSocket} */ (/** @type {unknown} */ (new WidgetSocket(this.channel, `/api/${path}`)));
  }
}

/** @param {DataView} view @returns {ArrayBuffer} */
const copied = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength).slice().buffer;

/**
 * Keeps the state of the widget as what is drawn and shown.
 *
 * @param {import("./editor.js").Editor} editor
 * @param {Model} model
 * @returns {() => void} tells it now
 */
function tellPython(editor, model) {
  /** @type {unknown} */
  let told = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const tell = () => {
    clearTimeout(timer);
    timer = undefined;
    const { document, picture, state } = editor;
    const sheet = state.pending ? told : editor.live.sheet();
    if (sheet !== told) {
      told = sheet;
      const { strokes, regions } = editor.live.sheet();
      const { num_frames, fps } = document.settings;
      model.set("drawn", { version: 3, width: picture.width, height: picture.height, num_frames, fps, strokes, ...(regions.length ? { regions } : {}) });
    }
    if (model.get("shown") !== state.node) model.set("shown", state.node);
    if (model.get("made") !== editor.lastFrame()) model.set("made", editor.lastFrame());
    model.save_changes();
  };
  editor.store.listen(() => void (timer ??= setTimeout(tell, TELL_AFTER_MS)));
  editor.store.schedule();
  return tell;
}

/** @param {Model} model @param {string} style @returns {() => void} ends it */
function start(model, style) {
  const page = /** @type {HTMLElement} */ (document.getElementById("page"));
  const channel = new Channel(model);
  /** @type {import("./editor.js").Editor | null} */
  let editor = null;
  /** @type {(() => void) | undefined} */
  let tell;
  let ended = false;
  mount(page, new SessionTransport(new WidgetApi(channel), model.get("session")), { style }).then(
    (opened) => {
      editor = opened;
      if (ended) return opened.destroy();
      tell = tellPython(opened, model);
      document.body.dataset.ready = "yes";
    },
    (error) => {
      page.textContent = error.message;
    },
  );
  return () => {
    ended = true;
    tell?.();
    editor?.destroy();
    render(null, page);
    channel.close();
  };
}

/** @type {any} */ (window).startStudio = start;
