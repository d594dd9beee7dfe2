/** The line below the picture, and the same for screen readers: at most one message a second. */
import { Icon } from "../icons.js";
import { statusOf } from "../status.js";
import { html, useEffect, useRef, useState } from "../vendor/preact-htm.js";

const TONE_ICONS = { quiet: "", busy: "", good: "check", warn: "warn", bad: "warn" };

/** @param {{editor: import("../editor.js").Editor}} props */
export function StatusLine({ editor }) {
  const status = statusOf(editor);
  const [, tick] = useState(0);
  const counts = editor.state.render !== null;
  useEffect(() => {
    if (!counts) return;
    const timer = setInterval(() => tick((count) => count + 1), 500); // the seconds left count down
    return () => clearInterval(timer);
  }, [counts]);
  return html`
    <footer class=${`status ${status.tone}`}>
      <${Ring} share=${status.progress} />
      ${TONE_ICONS[status.tone] && html`<${Icon} name=${TONE_ICONS[status.tone]} />`}
      <span class="status-text" title=${status.text}>${status.text}</span>
      ${status.actions.map((action) => html`<button key=${action.label} class="button small" onClick=${action.run}>${action.label}</button>`)}
      <${Announcer} text=${status.text} />
    </footer>`;
}

/** @param {{share: number | null}} props negative if nobody knows how long it takes */
function Ring({ share }) {
  if (share === null) return null;
  const around = 2 * Math.PI * 7;
  return html`
    <svg class=${`ring${share < 0 ? " unknown" : ""}`} viewBox="0 0 18 18" width="18" height="18" role="progressbar" aria-label="Progress"
      aria-valuemin="0" aria-valuemax="100" aria-valuenow=${share < 0 ? undefined : Math.round(100 * share)}>
      <circle class="track" cx="9" cy="9" r="7" /><circle class="value" cx="9" cy="9" r="7" stroke-dasharray=${`${around * (share < 0 ? 0.25 : share)} ${around}`} />
    </svg>`;
}

/** @param {{text: string}} props */
function Announcer({ text }) {
  const [said, say] = useState("");
  const state = useRef({ last: 0, timer: /** @type {any} */ (0) });
  // numbers that count are not read out each time
  const still = text.replace(/, [\d.]+ (s|minutes) left|, a second left/, "").replace(/^Frame \d+\. Drag/, "Drag");
  useEffect(() => {
    const memory = /** @type {{last: number, timer: any}} */ (state.current);
    const wait = Math.max(0, memory.last + 1000 - Date.now());
    memory.timer = setTimeout(() => {
      memory.last = Date.now();
      say(still);
    }, wait);
    return () => clearTimeout(memory.timer);
  }, [still]);
  return html`<div class="unseen" role="status" aria-live="polite">${said}</div>`;
}
