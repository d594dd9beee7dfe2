/** The start page: open a picture (drop, paste, choose), take an example, or go on with an earlier session. */
import { Icon } from "./icons.js";
import { forgetHistory } from "./storage.js";
import { html, render, useEffect, useState } from "./vendor/preact-htm.js";

/**
 * @param {HTMLElement} element
 * @param {import("./transport.js").Api} api
 * @param {(session: string) => void} open
 * @param {string} [problem]
 */
export function showStart(element, api, open, problem) {
  render(html`<${Start} api=${api} open=${open} first=${problem ?? ""} />`, element);
}

/** @param {{api: import("./transport.js").Api, open: (session: string) => void, first: string}} props */
function Start({ api, open, first }) {
  const [problem, setProblem] = useState(first);
  const [busy, setBusy] = useState("");
  const [over, setOver] = useState(false);
  const [examples, setExamples] = useState(/** @type {any[] | null} */ (null));
  const [sessions, setSessions] = useState(/** @type {any[] | null} */ (null));

  /** @param {Promise<any>} request @param {string} what */
  const create = async (request, what) => {
    setProblem("");
    setBusy(what);
    try {
      open((await request).id);
    } catch (error) {
      setBusy("");
      setProblem(/** @type {Error} */ (error).message);
    }
  };
  /** @param {File} file */
  const openFile = (file) => {
    const name = encodeURIComponent((file.name || "picture.png").slice(0, 100));
    create(api.json(`sessions?name=${name}`, { method: "POST", body: file, headers: file.type ? { "Content-Type": file.type } : {} }), `Opening ${file.name} …`);
  };
  const load = () => {
    api.json("examples").then(setExamples, (error) => (setExamples([]), setProblem((old) => old || error.message)));
    api.json("sessions").then(setSessions, () => setSessions([]));
  };
  useEffect(load, []);
  useEffect(() => {
    const paste = (/** @type {ClipboardEvent} */ event) => {
      const file = [...(event.clipboardData?.files ?? [])][0];
      if (file) openFile(file);
    };
    document.addEventListener("paste", paste);
    return () => document.removeEventListener("paste", paste);
  }, []);
  /** @param {DragEvent} event */
  const drop = (event) => {
    event.preventDefault();
    setOver(false);
    const file = event.dataTransfer?.files[0];
    if (file) openFile(file);
    else setProblem("That is not a file. Save the picture first, then drop it here.");
  };
  /** @param {any} session */
  const remove = async (session) => {
    try {
      await api.request(`sessions/${session.id}`, { method: "DELETE" });
      forgetHistory(session.id);
      setSessions((old) => old && old.filter((other) => other.id !== session.id));
    } catch (error) {
      setProblem(/** @type {Error} */ (error).message);
    }
  };
  return html`
    <main class="start" onDragOver=${(/** @type {Event} */ event) => (event.preventDefault(), setOver(true))} onDragLeave=${() => setOver(false)} onDrop=${drop}>
      <header>
        <h1>Draw on a picture, see it move</h1>
        <p>Drag where things should go, look at the motion at once, then render the frames.</p>
      </header>
      <label class=${`drop${over ? " over" : ""}`}>
        <${Icon} name="picture" />
        <b>${busy || "Drop a picture here, paste one, or choose a file"}</b>
        <span>PNG, JPEG or WebP. A saved session or an exported video opens, too.</span>
        <input type="file" accept="image/png,image/jpeg,image/webp,image/gif,video/mp4,video/webm,.zip" disabled=${busy !== ""}
          onChange=${(/** @type {any} */ event) => event.target.files[0] && openFile(event.target.files[0])} />
      </label>
      <div class="problem" role="alert">${problem && html`<${Icon} name="warn" /> <span>${problem}</span>
        ${problem.includes("does not answer") && html`<button class="button small" onClick=${() => (setProblem(""), load())}>Try again</button>`}`}</div>
      ${sessions && sessions.length > 0 && html`
        <section aria-labelledby="sessions-title"><h2 id="sessions-title">Go on with</h2>
          <ul class="cards">${sessions.map((session) => html`<${SessionCard} key=${session.id} api=${api} session=${session} open=${open} remove=${() => remove(session)} />`)}</ul>
        </section>`}
      ${examples?.length !== 0 && html`<section aria-labelledby="examples-title"><h2 id="examples-title">Examples</h2>
        <ul class="cards">
          ${examples === null && [0, 1, 2, 3, 4, 5, 6, 7].map((i) => html`<li key=${i} class="card waiting"><div class="card-picture"></div></li>`)}
          ${examples?.map((example) => html`
            <li key=${example.name} class="card">
              <button onClick=${() => create(api.sendJson("sessions", "POST", { example: example.name }), `Opening ${example.title} …`)} disabled=${busy !== ""}>
                <${Picture} api=${api} path=${`examples/${example.name}/thumbnail.webp`} />
                <span class="card-title">${example.title}</span><small>${example.width} × ${example.height}</small>
              </button>
            </li>`)}
        </ul>
      </section>`}
    </main>`;
}

/** @param {{api: import("./transport.js").Api, session: any, open: (id: string) => void, remove: () => void}} props */
function SessionCard({ api, session, open, remove }) {
  const [asking, ask] = useState(false);
  return html`
    <li class="card">
      <button onClick=${() => open(session.id)}>
        <${Picture} api=${api} path=${`sessions/${session.id}/thumbnail.webp`} />
        <span class="card-title">${session.name}</span>
        <small>${ago(session.changed)}${session.frames ? `, ${session.frames} frames` : ""}</small>
      </button>
      ${asking
        ? html`<div class="card-ask"><span>Remove it with its frames?</span><button class="button small stop" onClick=${remove}>Remove</button><button class="button small" onClick=${() => ask(false)}>Keep</button></div>`
        : html`<button class="icon-button card-remove" aria-label=${`Remove ${session.name}`} title="Remove" onClick=${() => ask(true)}><${Icon} name="bin" /></button>`}
    </li>`;
}

/** A picture that needs the token: fetched, then shown. @param {{api: import("./transport.js").Api, path: string}} props */
function Picture({ api, path }) {
  const [address, setAddress] = useState("");
  useEffect(() => {
    let made = "";
    let wanted = true;
    api.blob(path).then(
      (blob) => wanted && setAddress((made = URL.createObjectURL(blob))),
      () => {},
    );
    return () => {
      wanted = false;
      if (made) URL.revokeObjectURL(made);
    };
  }, [path]);
  return html`<div class="card-picture">${address && html`<img src=${address} alt="" />`}</div>`;
}

/** @param {number} seconds since 1970 */
function ago(seconds) {
  const minutes = Math.round((Date.now() / 1000 - seconds) / 60);
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${minutes} min ago`;
  if (minutes < 36 * 60) return `${Math.round(minutes / 60)} h ago`;
  return new Date(seconds * 1000).toLocaleDateString(undefined, { day: "numeric", month: "short", year: "numeric" });
}
