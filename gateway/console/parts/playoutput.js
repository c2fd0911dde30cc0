// What came back in the playground, and the same call for other clients.
import { useState } from "preact/hooks";
import { html } from "../html.js";
import { get, useLoaded } from "../api.js";
import { between, duration, number, plural, short } from "../format.js";
import { link } from "../router.js";
import { wire } from "../run.js";
import { bodyOf, clientOf, curlOf, openaiOf } from "../sending.js";
import { Coming } from "./content.js";
import { Copy } from "./copy.js";
import { Empty, Panel } from "./panel.js";
import { State } from "./sign.js";

const TABS = /** @type {const} */ ([["text", "Text"], ["events", "Events"], ["curl", "curl"], ["client", "Python"], ["openai", "OpenAI SDK"]]);
const STATES = { open: "", lost: "the stream broke off; it connects again", gone: "the gateway has no more of it", ended: "", closed: "" };

/** @param {{ run: import("../run.js").Run | null, draft: import("../sending.js").Draft }} props */
export function PlayOutput({ run, draft }) {
  const [tab, setTab] = useState(/** @type {typeof TABS[number][0]} */ ("text"));
  const kept = run?.kept.value;
  const sent = kept?.body["messages"] ? kept.body : undefined;
  const body = sent ?? bodyOf(draft);
  const copied = { text: kept?.answer.text ?? "", events: kept ? wire(kept) : "", curl: curlOf(body, kept?.id ?? ""), client: clientOf(body), openai: openaiOf(body) }[tab];
  const tools = html`<div class="segments" role="group" aria-label="Shown as">${TABS.map(([name, label]) => html`<button key=${name} type="button" aria-pressed=${tab === name} onClick=${() => setTab(name)}>${label}</button>`)}</div>
    ${copied && html`<${Copy} text=${copied} label="it" />`}`;
  const code = tab !== "text" && tab !== "events";
  const missing = run?.state.value === "gone" && !kept?.events.length;
  return html`<${Panel} title="Answer" class="playoutput" tools=${tools}>
    ${missing && html`<${Empty} title="There is no such request, or it is not yours to see." />`}
    ${!missing && run && kept && html`<${About} run=${run} kept=${kept} />`}
    ${!missing && tab === "text" && (kept && run ? html`<${Text} kept=${kept} open=${run.state.value === "open"} />` : html`<${Nothing} />`)}
    ${!missing && tab === "events" && (kept?.events.length ? html`${kept.dropped > 0 && html`<p class="dim">${plural(kept.dropped, "earlier event is", "earlier events are")} not shown.</p>`}
      <pre class="value tall" tabindex="0" aria-label="Events as they came">${copied}</pre>` : html`<${Nothing} />`)}
    ${code && html`<p class="dim">${sent ? "Exactly what was sent" : "What the form would send"}${tab === "openai" && ", by the API that this library knows"}. ${tab !== "openai" && "A gateway that requires credentials also needs your key."}</p>
      <pre class="value tall" tabindex="0" aria-label="The call">${copied}</pre>`}
  </${Panel}>`;
}

const Nothing = () => html`<${Empty} title="Nothing was sent yet."><p class="dim">What is sent goes into the queue as a request. This page follows it, also after a reload.</p></${Empty}>`;

/** @param {{ kept: import("../run.js").Kept, open: boolean }} props */
function Text({ kept, open }) {
  const { answer, events, ended } = kept;
  const failed = events.at(-1)?.name === "failed" ? JSON.parse(events.at(-1)?.data ?? "{}") : null;
  return html`<${Coming} answer=${answer} open=${open} expanded label="Text of the answer" />
    ${!answer.text && html`<p class="dim">${ended ? "It has no text." : "No text has come yet."}</p>`}
    ${failed && html`<p class="is-failed wrap"><code>${failed.code}</code> ${failed.detail}</p>`}`;
}

/** The request, and what this page saw of it. @param {{ run: import("../run.js").Run, kept: import("../run.js").Kept }} props */
function About({ run, kept }) {
  const ended = kept.ended;
  const request = useLoaded((abort) => get("/v1/requests/{request_id}", { path: { request_id: kept.id }, abort }), [kept.id, ended, kept.answer.attempt]);
  const first = kept.events.find((each) => each.name.endsWith("delta") || each.name === "tool_call");
  const status = ended ? kept.events.at(-1)?.name : kept.answer.attempt ? "in_progress" : "pending";
  const usage = request.data?.usage;
  const took = between(request.data?.created_at, request.data?.finished_at);
  return html`<div class="about"><${State} of=${status ?? "pending"} /><span class="inline"><a class="id" href=${link(`/requests/${kept.id}`)} title=${kept.id}>${short(kept.id)}</a><${Copy} text=${kept.id} label="the id" /></span>
    ${request.data?.conversation_id && html`<a href=${link(`/conversations/${request.data.conversation_id}`)}>its conversation</a>`}
    ${kept.sentAt > 0 && first && kept.dropped === 0 && html`<span>first text here after ${duration((first.at - kept.sentAt) / 1000)}</span>`}
    ${took !== undefined && html`<span>${duration(took)} in all</span>`}
    ${usage && html`<span>${number(usage.input_tokens)} tokens in, ${number(usage.output_tokens)} out</span>`}
    <span>${plural(kept.events.length + kept.dropped, "event")}</span>
    ${kept.resumed.length > 0 && html`<span>resumed after <code>${kept.resumed.at(-1)}</code></span>`}
    ${STATES[run.state.value] && html`<span class="is-pending">${STATES[run.state.value]}</span>`}</div>`;
}
