/**
 * The page: the start page, or the editor of one session. The fragment of the address names the session, and brings the
 * token of the server, which is kept for this tab.
 */
import { mount } from "./editor.js";
import { showStart } from "./start.js";
import { Api, SessionTransport } from "./transport.js";
import { render } from "./vendor/preact-htm.js";

const TOKEN_KEY = "mcdiff-studio:token";

const page = /** @type {HTMLElement} */ (document.getElementById("page"));
/** @type {import("./editor.js").Editor | null} */
let editor = null;

/** @returns {Api} */
function connect() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const token = fragment.get("token");
  if (token) {
    sessionStorage.setItem(TOKEN_KEY, token);
    fragment.delete("token");
    history.replaceState(null, "", fragment.size ? `#${fragment}` : location.pathname + location.search);
  }
  return new Api(new URL("./", import.meta.url).href, sessionStorage.getItem(TOKEN_KEY));
}

const api = connect();

/** @param {string} [problem] a sentence about why this page is shown */
function start(problem) {
  editor?.destroy();
  editor = null;
  render(null, page);
  document.title = "mcdiff studio";
  if (location.hash) history.pushState(null, "", location.pathname + location.search);
  showStart(page, api, open, problem);
}

/** @param {string} session */
async function open(session) {
  editor?.destroy();
  editor = null;
  const transport = new SessionTransport(api, session);
  const address = `#session=${session}`;
  if (location.hash !== address) history.pushState(null, "", address);
  try {
    render(null, page);
    const opened = await mount(page, transport, { onLeave: () => start() });
    editor = opened;
    document.title = `${opened.state.name} – mcdiff studio`;
    opened.store.listen(() => {
      const title = `${opened.state.name} – mcdiff studio`;
      if (document.title !== title) document.title = title;
    });
  } catch (error) {
    const { status, message } = /** @type {import("./transport.js").ApiError} */ (error);
    start(status === 404 ? "That session is gone. Open the picture again." : message);
  }
}

function route() {
  const session = new URLSearchParams(location.hash.slice(1)).get("session");
  if (session && session === editor?.transport.session) return;
  if (session) open(session);
  else start();
}

window.addEventListener("popstate", route);
window.addEventListener("hashchange", route);
// files that miss the drop area must not replace the page
window.addEventListener("dragover", (event) => event.preventDefault());
window.addEventListener("drop", (event) => event.preventDefault());
route();
