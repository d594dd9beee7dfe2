/**
 * The frames of a session: compressed as they came from the server, and the last used ones decoded.
 *
 * A node holds the frames after its first one, `at`; the ones up to there are its parent's, and frame 0 of all is the
 * picture.
 *
 * @typedef {{id: string, parent: string | null, at: number}} FrameNode
 */
const DECODED_BYTES = 192 * 2 ** 20;

export class FrameStore {
  /** @param {(node: string, index: number) => Promise<Blob>} load */
  constructor(load) {
    this.load = load;
    /** @type {Map<string, Promise<Blob>>} */
    this.packed = new Map();
    /** @type {Map<string, ImageBitmap>} in the order of their use */
    this.decoded = new Map();
    /** @type {Map<string, Promise<ImageBitmap | null>>} */
    this.loading = new Map();
    /** @type {ImageBitmap | null} */
    this.picture = null;
    this.bytes = 0;
  }

  /**
   * The node that made the frame that is shown as frame `index` of `node`, or null for the picture.
   *
   * @param {Map<string, FrameNode>} nodes @param {string | null} node @param {number} index
   */
  owner(nodes, node, index) {
    let current = node ? nodes.get(node) : undefined;
    while (current && index <= current.at) current = current.parent ? nodes.get(current.parent) : undefined;
    return index > 0 && current ? current.id : null;
  }

  /** Also in the place of a smaller one. @param {string} node @param {number} index @param {Blob} blob */
  put(node, index, blob) {
    const key = `${node}/${index}`;
    this.packed.set(key, Promise.resolve(blob));
    const old = this.decoded.get(key);
    if (!old) return;
    this.decoded.delete(key);
    this.bytes -= 4 * old.width * old.height;
  }

  /** The decoded frame if there is one now. @param {string | null} owner @param {number} index */
  ready(owner, index) {
    if (!owner) return this.picture;
    const key = `${owner}/${index}`;
    const bitmap = this.decoded.get(key);
    if (!bitmap) return null;
    this.decoded.delete(key);
    this.decoded.set(key, bitmap);
    return bitmap;
  }

  /** @param {string | null} owner @param {number} index @returns {Promise<ImageBitmap | null>} null if it cannot be had now */
  get(owner, index) {
    const bitmap = this.ready(owner, index);
    if (bitmap || !owner) return Promise.resolve(bitmap);
    const key = `${owner}/${index}`;
    let loading = this.loading.get(key);
    if (!loading) {
      loading = this.decode(key, owner, index).finally(() => this.loading.delete(key));
      this.loading.set(key, loading);
    }
    return loading;
  }

  /** @param {string} key @param {string} owner @param {number} index */
  async decode(key, owner, index) {
    let packed = this.packed.get(key);
    if (!packed) this.packed.set(key, (packed = this.load(owner, index)));
    try {
      const bitmap = await createImageBitmap(await packed);
      this.decoded.set(key, bitmap);
      this.bytes += 4 * bitmap.width * bitmap.height;
      for (const [old, other] of this.decoded) {
        if (this.bytes <= DECODED_BYTES || old === key) break;
        this.decoded.delete(old);
        this.bytes -= 4 * other.width * other.height;
      }
      return bitmap;
    } catch {
      this.packed.delete(key); // tried again when it is needed again
      return null;
    }
  }

  /** @param {string} node */
  forget(node) {
    for (const key of [...this.packed.keys()]) if (key.startsWith(`${node}/`)) this.packed.delete(key);
  }
}
