// What was asked, and the answer: as it comes while the request is open, as it is stored afterwards. Texts are text.
import { useLayoutEffect, useRef } from "preact/hooks";
import { html } from "../html.js";
import { number, plural } from "../format.js";
import { hasRow, isOpen } from "../list.js";
import { linkIfAny } from "../router.js";
import { Copy } from "./copy.js";
import { Panel } from "./panel.js";

/** @param {{ request: Api.RequestDetail }} props */
export function Messages({ request }) {
  const messages = request.messages;
  if (!messages?.length) {
    return html`<${Panel} title="Messages"><p class="dim">${unseen(request)}</p></${Panel}>`;
  }
  return html`<${Panel} title="Messages" note=${messages.length > 1 ? number(messages.length) : ""}>
    <div class="talk">${messages.map((message, index) => html`<${Message} key=${index} of=${message} />`)}</div></${Panel}>`;
}

/** Why there are none. @param {Api.RequestDetail} request */
function unseen(request) {
  if (hasRow(request)) return "They are not kept: they were deleted, or are longer than a record.";
  if (isOpen(request)) return "No worker has read its record yet. They are shown once one has.";
  const letters = linkIfAny("/dead-letters");
  return html`Its record was refused, and is kept as a dead letter. ${letters && html`<a href=${letters}>Dead letters</a>`}`;
}

/** @param {{ of: any }} props */
export function Message({ of }) {
  const calls = of.tool_calls ?? [];
  return html`<article class=${`message by-${of.role}`}><h3>${of.role}</h3>
    ${partsOf(of.content).map((part, index) => html`<${Part} key=${index} of=${part} />`)}
    ${calls.map((/** @type {any} */ call) => html`<pre key=${call.id} class="callbox">${call.function?.name}(${call.function?.arguments})</pre>`)}</article>`;
}

/** @param {any} content @returns {any[]} */
const partsOf = (content) => (typeof content === "string" ? [{ type: "text", text: content }] : (content ?? []));

/** One part of a message; of what is no text only its kind is shown. @param {{ of: any }} props */
function Part({ of }) {
  if (typeof of.text === "string") return html`<p class="said">${of.text}</p>`;
  return html`<p class="dim">[${of.type}${of.file?.file_id ? ` ${of.file.file_id}` : ""}]</p>`;
}

/** Keep the end of a growing text in sight, as long as its reader has not scrolled away from it. @param {string} text */
export function useFollowing(text) {
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const atEnd = useRef(true);
  const element = box.current;
  if (element) atEnd.current = element.scrollHeight - element.scrollTop - element.clientHeight < 24;
  useLayoutEffect(() => {
    if (text && box.current && atEnd.current) box.current.scrollTop = box.current.scrollHeight;
  }, [text]);
  return box;
}

const STATES = { open: "as it comes", lost: "the stream broke off; it connects again", closed: "", ended: "" };

/** @param {{ request: Api.RequestDetail, stream: import("../stream.js").Stream }} props */
export function Answer({ request, stream }) {
  const answer = stream.answer.value;
  const following = useFollowing(answer.text);
  const open = isOpen(request);
  const from = stream.from.value;
  const text = (from ? answer.text : "") || request.reply || answer.text;
  const note = from ? html`the pieces after <code>${from}</code>` : open ? STATES[stream.state.value] : request.usage && plural(request.usage.output_tokens ?? 0, "token");
  return html`<${Panel} title="Answer" note=${note} tools=${text && html`<${Copy} text=${text} label="the answer" />`}>
    ${answer.reasoning && html`<details class="reasoning"><summary>Reasoning</summary><p class="said dim">${answer.reasoning}</p></details>`}
    ${answer.calls.map((call, index) => html`<pre key=${index} class="callbox">${call.name}(${call.arguments})</pre>`)}
    ${text && html`<p class="said long" tabindex="0" aria-label="Text of the answer" role="region" ref=${following}>${text}${open && stream.state.value === "open" && html`<span class="caret" aria-hidden="true"></span>`}</p>`}
    ${!text && !answer.calls.length && html`<p class="dim">${open ? "No text has come yet." : request.error ? "There is none." : "It has no text."}</p>`}
    ${request.error && html`<p class="is-failed"><code>${request.error.code}</code> ${request.error.detail}</p>`}
  </${Panel}>`;
}
