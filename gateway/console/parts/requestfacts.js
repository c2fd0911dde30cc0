// What is known of a request, in names and values.
import { html } from "../html.js";
import { money, number, plural, short } from "../format.js";
import { acceptedAt, hasRow, isOpen } from "../list.js";
import { link, linkIfAny } from "../router.js";
import { Copy } from "./copy.js";
import { Facts, Panel } from "./panel.js";
import { Ago, Clock } from "./time.js";

/** @param {{ request: Api.RequestDetail }} props */
export function KnownFacts({ request }) {
  const { usage, tries, max_tries: most, conversation_id: conversation, trace_id: trace, worker } = request;
  const talk = conversation && linkIfAny(`/conversations/${conversation}`);
  const id = (/** @type {string} */ text, /** @type {string} */ label, /** @type {string | undefined} */ href) => html`<span class="inline">
    ${href ? html`<a class="id" href=${href} title=${text}>${short(text)}</a>` : html`<span class="id" title=${text}>${short(text)}</span>`}<${Copy} text=${text} label=${label} /></span>`;
  if (!hasRow(request)) return html`<${Panel} title="Facts"><p class="dim">${isOpen(request) ? "They are known once a worker has read its record." : "Its record was refused, so nothing else is known of it."}</p></${Panel}>`;
  return html`<${Panel} title="Facts"><${Facts} rows=${[
    ["Owner", request.owner && html`<a href=${link("/requests", { owner: request.owner })}>${request.owner}</a>`],
    ["Conversation", conversation && id(conversation, "the conversation's id", talk ?? link("/requests", { conversation_id: conversation }))],
    ["Model", request.model && html`<a href=${link("/requests", { model: request.model })}>${request.model}</a>`],
    ["Task type", request.task_type],
    ["Came by", request.door && `OpenAI's ${request.door === "chat" ? "chat completions" : request.door}`],
    ["Priority", request.priority !== null && request.priority !== undefined && `${request.priority} of 9`],
    ["Attempts", html`${number(request.attempts)}${request.attempts && most ? html`, <span class="dim">${tries ? `${number(tries)} of ${plural(most, "try", "tries")} used` : "none of which counts as a try"}</span>` : ""}`],
    ["Accepted", html`<${Ago} at=${acceptedAt(request)} />`],
    ["Not before", request.not_before && html`<${Clock} at=${request.not_before} />`],
    ["Deadline", request.deadline && html`<${Clock} at=${request.deadline} />`],
    ["Ended", request.finished_at && html`<${Ago} at=${request.finished_at} />`],
    ["Ended by", request.finish_reason && html`<code>${request.finish_reason}</code>`],
    ["Tokens", usage && `${number(usage.input_tokens)} in, ${number(usage.output_tokens)} out`],
    ["Cost", request.cost !== null && request.cost !== undefined && money(request.cost)],
    ["Worker", worker && id(worker, "the worker's id", linkIfAny("/workers"))],
    ["Retry of", request.retry_of && id(request.retry_of, "the id", link(`/requests/${request.retry_of}`))],
    ["Trace", trace && id(trace, "the trace's id", undefined)],
    ...Object.entries(request.metadata ?? {}).map(([name, value]) => /** @type {[string, any]} */ ([name, value])),
  ]} /></${Panel}>`;
}
