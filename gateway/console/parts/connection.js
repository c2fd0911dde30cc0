// Whether what the page shows is live, in words.
import { html } from "../html.js";
import { clock } from "../format.js";
import { connection, now, paused, received, since } from "../live.js";

const WORDS = { connecting: "connecting", live: "live", late: "late", lost: "not connected", paused: "paused" };

export function Connection() {
  const state = connection.value;
  void now.value; // Its age is shown.
  const age = Math.max(0, Math.round((Date.now() - received.value) / 1000));
  const when = { live: "", connecting: "", late: `${age} s old`, lost: `since ${clock(new Date(since.value).toISOString(), Date.now())}`, paused: "" }[state];
  return html`<div class="connection">
    <span class=${`dot is-${state}`} aria-hidden="true"></span>
    <span role="status">${WORDS[state]}</span><span class="age dim">${when}</span>
    <button type="button" class="quiet" title="Pause or resume live updates (.)" aria-pressed=${paused.value} onClick=${() => (paused.value = !paused.value)}>
      ${paused.value ? "Resume" : "Pause"}</button>
  </div>`;
}
