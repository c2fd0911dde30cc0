// One turn of a conversation: what was said, the answer or what became of it, and its request.
import { html } from "../html.js";
import { get, useLoaded } from "../api.js";
import { between, duration, plural, short } from "../format.js";
import { hasRow, isOpen } from "../list.js";
import { link } from "../router.js";
import { NOTHING } from "../stream.js";
import { Coming, Parts } from "./content.js";
import { State } from "./sign.js";
import { Ago } from "./time.js";

/** @param {{ turn: import("../talk.js").Turn, live: boolean }} props */
export function Turn({ turn, live }) {
  const { request, messages, answer } = turn;
  const said = messages.filter((each) => each.role !== "assistant");
  const replies = messages.filter((each) => each.role === "assistant");
  const open = request && isOpen(request);
  return html`<li class="turn">
    ${request && !said.length ? html`<${Asked} id=${request.id} />` : said.map((each) => html`<${Said} key=${each.id} of=${each} />`)}
    ${replies.map((each) => html`<${Said} key=${each.id} of=${each} />`)}
    ${!replies.length && request && html`<${Reply} request=${request} answer=${answer} open=${open} live=${live} />`}
    ${request ? html`<${Foot} request=${request} />` : turn.id && html`<footer><a class="id" href=${link(`/requests/${turn.id}`)}>${short(turn.id)}</a></footer>`}
  </li>`;
}

/** A message that is stored, or one of a request. @param {{ of: any }} props */
function Said({ of }) {
  const content = of.output ?? of.parts ?? of.content;
  return html`<article class=${`bubble by-${of.role}`}><h3>${of.role}${of.tool_call_id && html` <code>${of.tool_call_id}</code>`}</h3><${Parts} of=${content} calls=${of.tool_calls} /></article>`;
}

/** The messages of a request of which the conversation has stored none yet. @param {{ id: string }} props */
function Asked({ id }) {
  const request = useLoaded((abort) => get("/v1/requests/{request_id}", { path: { request_id: id }, abort }), [id]);
  const messages = request.data?.messages;
  if (!request.data && !request.problem) return html`<p class="dim" aria-busy="true">…</p>`;
  if (!messages?.length) return html`<p class="dim">${request.data && !hasRow(request.data) ? "No worker has read it yet." : "Its messages are not kept."}</p>`;
  return messages.map((/** @type {any} */ each, /** @type {number} */ index) => html`<${Said} key=${index} of=${each} />`);
}

/** @param {{ request: any, answer?: import("../stream.js").Answer, open: boolean, live: boolean }} props */
function Reply({ request, answer = NOTHING, open, live }) {
  const text = answer.text || request.reply || "";
  const error = request.error ?? (open ? request.last_error : null);
  if (!text && !answer.reasoning && !answer.calls.length && !error && !request.output) return null;
  return html`<article class="bubble by-assistant"><h3>assistant</h3>
    ${!text && request.output && html`<${Parts} of=${request.output} />`}
    <${Coming} answer=${answer} text=${text} open=${open && live} />
    ${error && html`<p class="is-failed wrap"><code>${error.code}</code> ${error.detail}</p>`}
  </article>`;
}

/** @param {{ request: any }} props */
function Foot({ request }) {
  const usage = request.usage;
  const tokens = usage && (usage.input_tokens ?? 0) + (usage.output_tokens ?? 0);
  const took = between(request.created_at, request.finished_at);
  return html`<footer><${State} of=${request.status} cancelling=${request.cancel_requested} />
    <a class="id" href=${link(`/requests/${request.id}`)} title=${request.id}>${short(request.id)}</a>
    ${request.model && html`<span>${request.model}</span>`}
    ${took !== undefined && html`<span>${duration(took)}</span>`}
    ${tokens ? html`<span>${plural(tokens, "token")}</span>` : null}
    ${request.finish_reason && request.finish_reason !== "stop" && html`<span>ended by <code>${request.finish_reason}</code></span>`}
    <span class="when"><${Ago} at=${request.created_at} /></span></footer>`;
}
