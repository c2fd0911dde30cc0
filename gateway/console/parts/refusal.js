// Why a record was refused, what its bytes show, and whether a worker would take what a replay sends now.
import { html } from "../html.js";
import { hex, notText, repaired } from "../bytes.js";
import { number, sentence } from "../format.js";
import { Panel } from "./panel.js";
import { Sign } from "./sign.js";

/** @param {{ letter: Api.DeadLetterResource, draft: import("../letter.js").Draft, dirty: boolean, checked: Api.CheckedDeadLetter | null,
 *    change: (draft: import("../letter.js").Draft) => void }} props */
export function Refusal({ letter, draft, dirty, checked, change }) {
  const state = checked ?? (dirty ? null : { obstacle: letter.obstacle });
  return html`<${Panel} title="Why it was refused"><ol class="reasons">
    <li><${Sign} name="failed" tone="failed" /><p>${sentence(letter.detail || "No detail was kept")} <code class="dim">${letter.reason}</code></p></li>
    <${Bytes} draft=${draft} change=${change} />
    <${Now} state=${state} sent=${!!letter.replayed_at} /></ol></${Panel}>`;
}

/** @param {{ draft: import("../letter.js").Draft, change: (draft: import("../letter.js").Draft) => void }} props */
function Bytes({ draft, change }) {
  const bad = draft.value ? notText(draft.value) : [];
  const first = bad[0];
  if (first === undefined || !draft.value) return null;
  const value = draft.value;
  const byte = value[first] ?? 0;
  const more = bad.length > 1 ? html`, as ${bad.length === 2 ? "is one more" : `are ${number(bad.length - 1)}${bad.length >= 200 ? "+" : ""} more`}` : "";
  return html`<li><${Sign} name="warn" tone="warn" /><p><b>Byte ${number(first)} is not UTF-8</b> (<code>0x${hex(byte)}</code>${byte >= 0xa0 && html`, “${String.fromCharCode(byte)}” in Latin-1`})${more}.
    ${" "}<button type="button" onClick=${() => change({ ...draft, value: repaired(value) })}>Read as Latin-1</button></p></li>`;
}

/** @param {{ state: { obstacle: Api.RequestError | null } | null, sent: boolean }} props */
function Now({ state, sent }) {
  if (!state) return html`<li><${Sign} name="pending" tone="pending" /><p class="dim" role="status">Not checked since the last change.</p></li>`;
  if (state.obstacle) {
    return html`<li><${Sign} name="warn" tone="bad" /><p role="status">Sent like this, it would be refused again: ${state.obstacle.detail} <code class="dim">${state.obstacle.code}</code></p></li>`;
  }
  return html`<li><${Sign} name="ok" tone="ok" /><p role="status">A worker would take it like this${sent ? "; a request that exists already does not change" : ""}.</p></li>`;
}

