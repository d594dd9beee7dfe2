// A server made up in the page: it answers like the real one, at once and always the same. Tests set how it behaves
// by its properties, and read what it was told.

const SETTINGS = { seed: 0, steps: 2, guidance: 1, width: 128, height: 128, output_width: 0, output_height: 0 };

export const READY = {
  state: "ready", why: null, name: "made-up", fingerprint: "f", cell: 4, multiple: 8, area: 128 * 128, has_flow: true, can_resize: true,
  defaults: { num_frames: 16, fps: 8, steps: 2, guidance: 1 },
  segmenter: { ready: true, why: null }, joints: { ready: false, why: "missing" },
};

export class FakeTransport {
  constructor({ width = 640, height = 480, sheet = null, name = "cat.jpg", session = "0".repeat(32), photo = null } = {}) {
    Object.assign(this, { width, height, name, session, photo });
    this.model = READY;
    this.sent = [];
    this.saved = [];
    this.regionSets = new Map();
    this.nodes = [];
    this.sheet = sheet;
    this.document = null;
    this.documentRev = 0;
    this.frameMs = 30;
    this.flowDelay = () => 0;
    this.refuseFlow = null;
    this.warnings = [];
    this.failAt = Infinity;
    this.order = Promise.resolve();
    this.connected = true;
    this.saveError = null;
    Object.assign(this, { queue: [], going: null, paused: false, steering: null });
  }

  connect(handlers) {
    this.handlers = handlers;
    setTimeout(() => this.hello(), 0);
  }

  async hello() {
    this.handlers.connection("open");
    await this.emit({ type: "hello", session: await this.state(), model: this.model, limits: { frames: 256, shorter_side: 512, strokes: 256, points: 1024 }, rendering: null });
  }

  emit(header, payload = new Uint8Array(0)) {
    this.order = this.order.then(() => this.handlers.message(header, payload)).catch((error) => console.error(error));
    return this.order;
  }

  setModel(model) {
    this.model = { ...READY, ...model };
    return this.emit({ type: "model", model: this.model });
  }

  drop(state = "offline") {
    this.connected = false;
    this.handlers.connection(state);
  }

  reconnect = () => {
    this.connected = true;
    this.hello();
  };

  async state() {
    return {
      id: this.session, name: this.name, picture: { width: this.width, height: this.height }, created: 0, changed: 0, nodes: this.nodes.map((node) => ({ ...node })),
      document: this.document, document_rev: this.documentRev, sheet: this.sheet, settings: null,
    };
  }

  async picture() {
    return this.photo ?? this.frame(null, 0);
  }

  async frame(node, index) {
    const canvas = new OffscreenCanvas(Math.min(this.width, 512), Math.round((Math.min(this.width, 512) * this.height) / this.width));
    const context = canvas.getContext("2d");
    if (this.photo) {
      const bitmap = await createImageBitmap(this.photo);
      context.drawImage(bitmap, (index * canvas.width) / 200, 0, canvas.width, canvas.height);
      context.globalAlpha = 0.999;
    } else {
      const sky = context.createLinearGradient(0, 0, 0, canvas.height);
      sky.addColorStop(0, "#7fa7c9");
      sky.addColorStop(1, "#d9c9a8");
      context.fillStyle = sky;
      context.fillRect(0, 0, canvas.width, canvas.height);
      context.fillStyle = "#8c4a3c";
      context.beginPath();
      context.arc(canvas.width * (0.35 + index * 0.02), canvas.height * 0.55, canvas.height * 0.2, 0, 7);
      context.fill();
    }
    return canvas.convertToBlob({ type: "image/png" });
  }

  async save(document, rev) {
    if (!this.connected) throw Object.assign(new Error("The server does not answer."), { status: 0 });
    if (this.saveError) throw Object.assign(new Error("full"), { status: this.saveError });
    this.saved.push(document);
    this.document = JSON.parse(JSON.stringify(document));
    this.documentRev = rev;
    return { rev };
  }

  async putRegions(regions) {
    const key = String(this.regionSets.size + 1).padStart(16, "0");
    this.regionSets.set(key, regions);
    return { regions: key };
  }

  send(message) {
    if (!this.connected) return false;
    this.sent.push(message);
    const answers = ["flow", "render", "cancel", "pause", "steer", "best", "segment", "propose", "enlarge", "joints"];
    const answer = answers.find((one) => one === message.type);
    if (answer) this[answer](message);
    return true;
  }

  flow({ rev, node, frame, strokes }) {
    if (this.refuseFlow) return this.emit({ type: "refused", of: "flow", rev, field: null, stroke: null, region: null, node, code: "strokes", ...this.refuseFlow });
    const [h, w] = [32, 32];
    const values = new Float32Array(2 * h * w);
    for (const stroke of strokes.filter((one) => one.kind === "move")) {
      const [[x, y], ...others] = stroke.points;
      const [tx, ty] = others[others.length - 1];
      const length = (stroke.frames?.at(-1) ?? 15) - (stroke.frames?.[0] ?? 0);
      for (let i = 0; i < h * w; i++) {
        const [cx, cy] = [((i % w) + 0.5) / w, (Math.floor(i / w) + 0.5) / h];
        const near = Math.exp(-(((cx - x / this.width) ** 2 + (cy - y / this.height) ** 2) / 0.02));
        values[i] += (near * (tx - x) * 128) / this.width / length;
        values[h * w + i] += (near * (ty - y) * 128) / this.height / length;
      }
    }
    const payload = new Uint8Array(new Uint16Array([...values].map(toHalf)).buffer);
    setTimeout(() => this.emit({ type: "flow", rev, node, frame, h, w, ms: 1, width: 128, height: 128, warnings: this.warnings }, payload), this.flowDelay(rev));
  }

  async render({ rev, node, parent, at, strokes, num_frames, fps, regions, settings, camera }) {
    let made = this.nodes.find((one) => one.id === node);
    if (!made) {
      const resolved = { ...SETTINGS, ...Object.fromEntries(Object.entries(settings ?? {}).filter(([, value]) => value !== null)) };
      made = { id: node, parent, at, num_frames, fps, strokes, regions, settings: resolved, state: "rendering", frames: 0, size: "working", seconds: null, name: null, star: false, created: this.nodes.length, model: "f", why: null, continuable: true, endless: false, best_of: null, score: null, camera };
      this.nodes.push(made);
    }
    if (this.going && this.going !== node) {
      made.state = "queued";
      this.queue.push({ rev, node, parent, at, strokes, num_frames, fps, regions, settings, camera });
      await this.emit({ type: "tree", nodes: this.nodes.map((one) => ({ ...one })) });
      return this.emit({ type: "queued", rev, node, ahead: 0, waiting: this.queue.length });
    }
    this.going = node;
    await this.frames(made, rev, num_frames);
    this.going = null;
    const next = this.queue.shift();
    if (!next) return;
    await this.emit({ type: "begun", node: next.node });
    this.render(next);
  }

  async frames(made, rev, num_frames) {
    const { id: node } = made;
    this.canceled = false;
    made.state = "rendering";
    const begun = Date.now();
    await this.emit({ type: "warnings", rev, node, warnings: this.warnings });
    await this.emit({ type: "tree", nodes: this.nodes.map((one) => ({ ...one })) });
    await this.emit({ type: "queued", rev, node, ahead: this.ahead ?? 0 });
    while (this.ahead) await new Promise((resolve) => setTimeout(resolve, 20));
    while (made.at + made.frames < num_frames - 1) {
      const index = made.at + made.frames + 1;
      while (this.paused && !this.canceled && !this.steering) await new Promise((resolve) => setTimeout(resolve, 10));
      if (this.steering && made.frames) return this.branchOff(made);
      if (index >= this.failAt) return this.emit({ type: "failed", node, frames: made.frames, why: "The graphics memory is full." });
      for (const step of [1, 2]) {
        await new Promise((resolve) => setTimeout(resolve, this.frameMs / 2));
        await this.emit({ type: "progress", node, index, step, steps: 2 });
        if (this.canceled) {
          made.state = "stopped";
          await this.emit({ type: "stopped", node, frames: made.frames, why: "canceled" });
          return;
        }
      }
      const blob = await this.frame(node, index);
      made.frames++;
      await this.emit({ type: "frame", node, index, seconds: this.frameMs / 1000, size: "working", width: 128, height: 128 }, new Uint8Array(await blob.arrayBuffer()));
    }
    made.state = "done";
    await this.emit({ type: "done", node, frames: made.frames, seconds: (Date.now() - begun) / 1000 });
  }

  async branchOff(made) {
    const { rev, strokes, camera } = this.steering;
    const child = { ...made, id: "c".repeat(32), parent: made.id, at: made.at + made.frames, frames: 0, strokes, camera, created: this.nodes.length };
    [this.steering, this.paused, made.state] = [null, false, "stopped"];
    this.nodes.push(child);
    await this.emit({ type: "tree", nodes: this.nodes.map((one) => ({ ...one })) });
    await this.emit({ type: "stopped", node: made.id, frames: made.frames, why: "steered" });
    await this.emit({ type: "steered", rev, node: made.id, child: child.id, frame: child.at });
    return this.frames(child, rev, child.num_frames);
  }

  steer(message) {
    this.steering = message;
  }

  pause({ node, paused }) {
    this.paused = paused;
    this.emit({ type: "paused", node, paused, frame: 0 });
  }

  cancel({ node }) {
    const waiting = this.queue.findIndex((one) => one.node === node);
    if (waiting < 0) return (this.canceled = true);
    this.queue.splice(waiting, 1);
    this.nodes.find((one) => one.id === node).state = "stopped";
    this.emit({ type: "tree", nodes: this.nodes.map((one) => ({ ...one })) });
    this.emit({ type: "stopped", node, frames: 0, why: "canceled" });
  }

  async best({ rev, node, ids }) {
    const source = this.nodes.find((one) => one.id === node);
    source.score = { mean: 2, strokes: [2] };
    for (const [i, id] of ids.entries()) {
      const settings = { ...source.settings, seed: i + 1 };
      this.nodes.push({ ...source, id, parent: null, at: 0, settings, best_of: node, name: null, created: this.nodes.length, score: { mean: 3 - i, strokes: [3 - i] } });
    }
    await this.emit({ type: "tree", nodes: this.nodes.map((one) => ({ ...one })) });
    await this.emit({ type: "done", node: ids[0], frames: source.frames, seconds: 1 });
  }

  async enlarge({ node }) {
    const made = this.nodes.find((one) => one.id === node);
    made.size = "output";
    await this.emit({ type: "done", node, frames: made.frames, seconds: 1, enlarged: true });
  }

  async segment({ rev, points }) {
    const { canvas, blob } = await this.mask(points);
    this.emit({ type: "mask", rev, h: canvas.height, w: 160, confidence: 0.9, warning: null }, new Uint8Array(await blob.arrayBuffer()));
  }

  async propose({ rev, strokes }) {
    const masks = strokes.filter((one) => one.kind === "move").map(async ({ points }) => new Uint8Array(await (await this.mask(points.slice(0, 1))).blob.arrayBuffer()));
    const regions = (await Promise.all(masks)).map((bytes) => ({ mask: `data:image/png;base64,${btoa(String.fromCharCode(...bytes))}` }));
    this.emit({ type: "proposed", rev, regions });
  }

  async mask(points) {
    const canvas = new OffscreenCanvas(160, Math.round((160 * this.height) / this.width));
    const context = canvas.getContext("2d");
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.fillStyle = "#fff";
    for (const [x, y] of points) {
      context.beginPath();
      context.arc((x * 160) / this.width, (y * 160) / this.width, 24, 0, 7);
      context.fill();
    }
    return { canvas, blob: await canvas.convertToBlob({ type: "image/png" }) };
  }

  joints({ rev, node, frame }) {
    const names = ["nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle"];
    const places = { 5: [260, 160], 6: [340, 160], 7: [230, 220], 8: [370, 220], 9: [220, 290], 10: [380, 290], 11: [275, 300], 12: [325, 300] };
    const points = names.map((_, i) => [...(places[i] ?? [0, 0]), places[i] ? 0.9 : 0.1]);
    this.emit({ type: "joints", rev, node, frame, names, people: [{ points }] });
  }

  async rename(name) {
    this.name = name;
    return {};
  }

  async changeNode(id, changes) {
    return { ...Object.assign(this.nodes.find((node) => node.id === id), changes) };
  }

  async deleteNode(id) {
    this.nodes = this.nodes.filter((node) => node.id !== id);
    return { removed: [id] };
  }

  async tracks(node) {
    const { frames, strokes } = this.nodes.find((one) => one.id === node);
    const numbers = Array.from({ length: frames }, (_, i) => i + 1);
    const track = ({ kind, points }) => {
      const [[x, y], end] = [points[0], points.at(-1)];
      const goals = numbers.map((n) => [x + ((end[0] - x) * n) / frames, y + ((end[1] - y) * n) / frames]);
      return { kind, start: 0, from: [x, y], off: kind === "hold" ? 1.5 : 22.4, goals, found: goals.map(([a, b], i) => [a - i, b + 3 * i]) };
    };
    return { node, last: frames, near: 11, frames: numbers, strokes: strokes.map(track) };
  }

  async importFile(file) {
    return { sheet: JSON.parse(await file.text()), settings: null };
  }

  async download() {
    return new Blob(["clip"]);
  }

  close() {}
}

// Rounds toward zero, which is exact enough for a picture.
function toHalf(value) {
  const bits = new Uint32Array(new Float32Array([value]).buffer)[0];
  const exponent = ((bits >> 23) & 255) - 112;
  if (exponent <= 0) return 0;
  return ((bits >> 16) & 0x8000) | (exponent << 10) | ((bits >> 13) & 1023);
}
