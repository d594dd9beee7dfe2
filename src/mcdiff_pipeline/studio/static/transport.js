/**
 * The connection to the server: requests (`Api`) and the live messages of one session (`SessionTransport`).
 *
 * Messages of the server are applied strictly in their order: the next one waits until the last was handled, also where
 * that decodes a picture. A lost connection is made again after 0.5 to 8 seconds.
 *
 * @typedef {"connecting" | "open" | "offline" | "elsewhere" | "expired" | "refused"} Connection
 * @typedef {{message: (header: any, payload: Uint8Array) => Promise<void> | void, connection: (state: Connection, why?: string) => void}} Handlers
 */
const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 8000;
const STABLE_MS = 5000;

/** An answer that is no success; its message is the server's sentence. */
export class ApiError extends Error {
  /** @param {number} status 0 if the server did not answer @param {string} why @param {string} [code] */
  constructor(status, why, code = "") {
    super(why);
    this.status = status;
    this.code = code;
  }
}

export class Api {
  /** @param {string} base the address of the page's folder @param {string | null} token */
  constructor(base, token) {
    this.base = base;
    this.token = token;
  }

  /** @param {string} path @param {RequestInit} [options] @returns {Promise<Response>} */
  async request(path, options = {}) {
    const headers = new Headers(options.headers);
    if (this.token) headers.set("X-Mcdiff-Token", this.token);
    let response;
    try {
      response = await fetch(new URL(`api/${path}`, this.base), { ...options, headers });
    } catch {
      throw new ApiError(0, "The server does not answer. Is mcdiff studio still running?");
    }
    if (response.ok) return response;
    const answer = await response.json().catch(() => ({}));
    throw new ApiError(response.status, answer.why ?? `The server answered with an error (${response.status}).`, answer.code);
  }

  /** @param {string} path @param {RequestInit} [options] */
  async json(path, options) {
    return (await this.request(path, options)).json();
  }

  /** @param {string} path @param {string} method @param {unknown} body */
  sendJson(path, method, body) {
    return this.json(path, { method, body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });
  }

  /** @param {string} path */
  async blob(path) {
    return (await this.request(path)).blob();
  }

  /** @param {string} path @returns {WebSocket} */
  socket(path) {
    const address = new URL(`api/${path}`, this.base);
    address.protocol = address.protocol.replace("http", "ws");
    return new WebSocket(address);
  }
}

export class SessionTransport {
  /** @param {Api} api @param {string} session */
  constructor(api, session) {
    this.api = api;
    this.session = session;
    this.path = `sessions/${session}`;
    /** @type {WebSocket | null} */
    this.socket = null;
    /** @type {Handlers | null} */
    this.handlers = null;
    this.delay = FIRST_RETRY_MS;
    this.closed = false;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.retry = undefined;
    this.order = Promise.resolve();
  }

  /** @param {Handlers} handlers */
  connect(handlers) {
    this.handlers = handlers;
    this.open();
    window.addEventListener("online", this.reconnect);
  }

  reconnect = () => {
    clearTimeout(this.retry);
    this.delay = FIRST_RETRY_MS;
    if (!this.closed && (!this.socket || this.socket.readyState === WebSocket.CLOSED)) this.open();
  };

  open() {
    const socket = this.api.socket(`${this.path}/live`);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.handlers?.connection("connecting");
    let stable = /** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined);
    socket.onopen = () => {
      socket.send(JSON.stringify({ type: "hello", token: this.api.token }));
      stable = setTimeout(() => (this.delay = FIRST_RETRY_MS), STABLE_MS);
    };
    socket.onmessage = ({ data }) => {
      const length = new DataView(data).getUint32(0, true);
      const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
      const payload = new Uint8Array(data, 4 + length);
      this.order = this.order.then(async () => {
        if (header.type === "hello") this.handlers?.connection("open");
        await this.handlers?.message(header, payload);
      }).catch((error) => console.error(error));
    };
    socket.onclose = ({ code, reason }) => {
      clearTimeout(stable);
      if (this.closed || this.socket !== socket) return;
      this.order = this.order.then(() => this.lost(code, reason));
    };
  }

  /** @param {number} code @param {string} reason */
  lost(code, reason) {
    if (code === 4409) return this.handlers?.connection("elsewhere");
    if (code === 4404 || code === 4410) return this.handlers?.connection("expired");
    if (code === 4401) return this.handlers?.connection("refused", reason);
    this.handlers?.connection("offline");
    clearTimeout(this.retry);
    this.retry = setTimeout(() => this.open(), this.delay);
    this.delay = Math.min(2 * this.delay, LAST_RETRY_MS);
  }

  /** @param {object} message @returns {boolean} whether it was sent */
  send(message) {
    if (this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }

  close() {
    this.closed = true;
    clearTimeout(this.retry);
    window.removeEventListener("online", this.reconnect);
    this.socket?.close();
  }

  picture() {
    return this.api.blob(`${this.path}/picture.png`);
  }

  /** @param {string} node @param {number} index @param {"working" | "output"} size */
  frame(node, index, size) {
    return this.api.blob(`${this.path}/nodes/${node}/frames/${index}.webp${size === "output" ? "?size=output" : ""}`);
  }

  /** @param {object} document @param {number} rev @returns {Promise<{rev: number}>} */
  save(document, rev) {
    return this.api.sendJson(`${this.path}/document`, "PUT", { rev, document });
  }

  /** @param {object[]} regions @returns {Promise<{regions: string | null}>} */
  putRegions(regions) {
    return this.api.sendJson(`${this.path}/regions`, "PUT", { regions });
  }

  state() {
    return this.api.json(this.path);
  }

  /** @param {string} name */
  rename(name) {
    return this.api.sendJson(this.path, "PATCH", { name });
  }

  /** @param {string} node @param {{name?: string | null, star?: boolean}} changes */
  changeNode(node, changes) {
    return this.api.sendJson(`${this.path}/nodes/${node}`, "PATCH", changes);
  }

  /** @param {string} node */
  deleteNode(node) {
    return this.api.json(`${this.path}/nodes/${node}`, { method: "DELETE" });
  }

  /** @param {string} node @returns {Promise<import("./tracks.js").FoundTracks>} */
  tracks(node) {
    return this.api.json(`${this.path}/nodes/${node}/tracks.json`);
  }

  /** @param {Blob} file a stroke sheet or a clip @returns {Promise<{sheet: any, settings: any}>} */
  importFile(file) {
    return this.api.json(`${this.path}/import`, { method: "POST", body: file });
  }

  /** @param {string} file for instance `nodes/ID/clip.mp4` */
  download(file) {
    return this.api.blob(`${this.path}/${file}`);
  }
}
