// What can be done with one request in the state that it has.
import { useState } from "preact/hooks";
import { html } from "../html.js";
import { call, post } from "../api.js";
import { short } from "../format.js";
import { useKeys } from "../keys.js";
import { hasRow, isOpen } from "../list.js";
import { notify } from "../notices.js";
import { go, link } from "../router.js";
import { draftOf, keepDraft } from "../sending.js";
import { may } from "../session.js";
import { Confirm } from "./dialog.js";

/** @param {{ request: Api.RequestDetail, reload: () => void }} props */
export function RequestActions({ request, reload }) {
  const [asked, ask] = useState(/** @type {"cancel" | "retry" | "change" | null} */ (null));
  const open = isOpen(request);
  const steers = may("write") || may("operate");
  const legal = {
    cancel: steers && open && !request.cancel_requested,
    change: steers && request.status === "pending" && hasRow(request),
    retry: steers && !open && request.status !== "completed" && hasRow(request),
  };
  const keys = /** @type {const} */ ([["cancel", "c", "Cancel it"], ["retry", "r", "Retry it"], ["change", "p", "Change it"]]);
  useKeys(keys.filter(([verb]) => legal[verb]).map(([verb, key, text]) => ({ key, text, run: () => ask(verb) })));
  const close = () => ask(null);
  const props = { request, close, reload };
  const draft = may("write") && draftOf(request);
  function toPlayground() {
    if (draft) keepDraft(draft);
    go(link("/playground"));
  }
  return html`
    ${draft && html`<button type="button" title="Ask the same in its conversation, of this model or of another" onClick=${toPlayground}>Ask again …</button>`}
    ${legal.change && html`<button type="button" onClick=${() => ask("change")}>Priority ${request.priority} …</button>`}
    ${legal.cancel && html`<button type="button" class="danger" onClick=${() => ask("cancel")}>Cancel</button>`}
    ${legal.retry && html`<button type="button" class="primary" onClick=${() => ask("retry")}>Retry</button>`}
    ${asked === "cancel" && html`<${Cancel} ...${props} />`}
    ${asked === "retry" && html`<${Retry} ...${props} />`}
    ${asked === "change" && html`<${Change} ...${props} />`}`;
}

/** @typedef {{ request: Api.RequestDetail, close: () => void, reload: () => void }} Props */

/** @param {Props} props */
function Cancel({ request, close, reload }) {
  async function act() {
    await post("/v1/requests/{request_id}/cancel", { path: { request_id: request.id } });
    notify(`Request ${short(request.id)} will be cancelled, unless it ends first.`);
    reload();
  }
  return html`<${Confirm} title="Cancel this request" yes="Cancel it" danger act=${act} close=${close}>
    <p>${request.status === "in_progress" ? "Its call to the model is closed. What came of the answer is kept." : "It ends where it waits."}</p></${Confirm}>`;
}

/** @param {Props} props */
function Retry({ request, close }) {
  async function act() {
    const made = await post("/v1/requests/{request_id}/retry", { path: { request_id: request.id } });
    notify(`Request ${short(made.id)} is the retry.`);
    go(link(`/requests/${made.id}`));
  }
  return html`<${Confirm} title="Retry this request" yes="Retry it" act=${act} close=${close}>
    <p>A new request with the same messages is put at the end of its conversation${request.deadline ? ", without a deadline" : ""}. This one stays as it is.</p></${Confirm}>`;
}

/** @param {Props} props */
function Change({ request, close, reload }) {
  const [priority, set] = useState(String(request.priority ?? 5));
  async function act() {
    await call("PATCH", "/v1/requests/{request_id}", { path: { request_id: request.id }, body: { priority: Number(priority) } });
    notify(`Request ${short(request.id)} has priority ${priority} now.`);
    reload();
  }
  return html`<${Confirm} title="Change its priority" yes="Change it" act=${act} close=${close} ready=${priority !== String(request.priority)}>
    <label>Priority, 9 first <select value=${priority} onChange=${(/** @type {any} */ event) => set(event.target.value)}>
      ${[9, 8, 7, 6, 5, 4, 3, 2, 1, 0].map((each) => html`<option key=${each} value=${String(each)}>${each}</option>`)}</select></label></${Confirm}>`;
}
