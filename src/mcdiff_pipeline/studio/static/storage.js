/**
 * Keeps documents and their undo history in the browser, so that both survive a reload and a lost connection. Where the
 * browser has no IndexedDB (some private windows), the functions do nothing.
 *
 * @typedef {import("./document.js").StudioDocument} StudioDocument
 * @typedef {{past: StudioDocument[], present: StudioDocument, future: StudioDocument[], rev: number, changed: number, node?: string | null, frame?: number}} Kept
 */
const DATABASE = "mcdiff-studio";
const STORE = "histories";
const KEPT_SESSIONS = 40;

/** @template T @param {IDBRequest<T>} request @returns {Promise<T>} */
const settled = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

/** @type {Promise<IDBDatabase | null> | null} */
let opening = null;
/** @type {IDBDatabase | null} */
let opened = null;

function database() {
  opening ??= new Promise((resolve) => {
    try {
      const request = indexedDB.open(DATABASE, 1);
      request.onupgradeneeded = () => request.result.createObjectStore(STORE);
      request.onsuccess = () => resolve((opened = request.result));
      request.onerror = () => resolve(null);
    } catch {
      resolve(null);
    }
  });
  return opening;
}

/**
 * Keeps the history of a session, at once if the database is open: a page that is going runs nothing that waits.
 *
 * @param {string} session
 * @param {Kept} kept
 */
export async function keepHistory(session, kept) {
  const base = opened ?? (await database());
  if (!base) return;
  try {
    const change = base.transaction(STORE, "readwrite");
    // one structured clone keeps what the documents share
    const put = settled(change.objectStore(STORE).put(kept, session));
    change.commit();
    await put;
    const store = base.transaction(STORE, "readwrite").objectStore(STORE);
    const keys = await settled(store.getAllKeys());
    if (keys.length > KEPT_SESSIONS) await dropOldest(store, keys);
  } catch {
    // a full disk: the server still has the document
  }
}

/** @param {IDBObjectStore} store @param {IDBValidKey[]} keys */
async function dropOldest(store, keys) {
  const ages = await Promise.all(keys.map(async (key) => ({ key, changed: (await settled(store.get(key))).changed })));
  ages.sort((a, b) => a.changed - b.changed);
  for (const { key } of ages.slice(0, keys.length - KEPT_SESSIONS)) store.delete(key);
}

/** @param {string} session @returns {Promise<Kept | null>} */
export async function keptHistory(session) {
  const base = await database();
  if (!base) return null;
  try {
    return (await settled(base.transaction(STORE).objectStore(STORE).get(session))) ?? null;
  } catch {
    return null;
  }
}

/** @param {string} session */
export async function forgetHistory(session) {
  const base = await database();
  base?.transaction(STORE, "readwrite").objectStore(STORE).delete(session);
}

/** A preference of this browser. @param {string} key @param {string} otherwise */
export function preference(key, otherwise) {
  try {
    return localStorage.getItem(`mcdiff-studio:${key}`) ?? otherwise;
  } catch {
    return otherwise;
  }
}

/** @param {string} key @param {string} value */
export function setPreference(key, value) {
  try {
    localStorage.setItem(`mcdiff-studio:${key}`, value);
  } catch {
    // no storage: the preference lasts until the page is closed
  }
}
