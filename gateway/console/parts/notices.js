// What was done, at the lower edge.
import { html } from "../html.js";
import { dismiss, notices } from "../notices.js";
import { Sign } from "./sign.js";

export const Notices = () => html`<div class="notices" role="status">${notices.value.map((each) => html`<div key=${each.id} class="notice">
  <${Sign} name=${each.kind} tone=${each.kind} /><span>${each.text}</span>
  <button type="button" class="icon" aria-label="Dismiss" onClick=${() => dismiss(each.id)}><${Sign} name="close" /></button></div>`)}</div>`;
