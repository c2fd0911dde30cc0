// Whether what the page shows is live, in words.
import { html } from "../html.js";
import { clock } from "../format.js";
import { connection, frozen, now, received, since } from "../live.js";

const WORDS = { connecting: "connecting", live: "live", late: "late", lost: "not connected", frozen: "frozen" };

export function Connection() {
  const state = connection.value;
  void now.value; // Its age is shown.
  const age = Math.max(0, Math.round((Date.now() - received.value) / 1000));
  const from = `since ${clock(new Date(since.value).toISOString(), Date.now())}`;
  const when = { live: "", connecting: "", late: `${age} s old`, lost: from, frozen: from }[state];
  return html`<div class="connection">
    <span class=${`dot is-${state}`} aria-hidden="true"></span>
    <div><span role="status">${WORDS[state]}</span> <span class="age dim">${when}</span></div>
    <button type="button" class="quiet" title=${frozen.value ? "Go on with live updates (.)" : "Keep numbers and lists as they are (.)"} onClick=${() => (frozen.value = !frozen.value)}>
      ${frozen.value ? "Unfreeze" : "Freeze"}</button>
  </div>`;
}
