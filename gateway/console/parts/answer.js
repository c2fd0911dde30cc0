// What was asked, and the answer: as it comes while the request is open, as it is stored afterwards. Texts are text.
import { html } from "../html.js";
import { number, plural } from "../format.js";
import { hasRow, isOpen } from "../list.js";
import { linkIfAny } from "../router.js";
import { Coming, Parts, Said } from "./content.js";
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
const Message = ({ of }) => html`<article class=${`message by-${of.role}`}><h3>${of.role}${of.tool_call_id && html` <code>${of.tool_call_id}</code>`}</h3>
  <${Parts} of=${of.content} calls=${of.tool_calls} />${of.refusal && html`<${Said} text=${of.refusal} tone="is-failed" />`}</article>`;

const STATES = { open: "as it comes", lost: "the stream broke off; it connects again", closed: "", ended: "" };

/** @param {{ request: Api.RequestDetail, stream: import("../stream.js").Stream }} props */
export function Answer({ request, stream }) {
  const answer = stream.answer.value;
  const open = isOpen(request);
  const from = stream.from.value;
  const text = (from ? answer.text : "") || request.reply || answer.text;
  const note = from ? html`the pieces after <code>${from}</code>` : open ? STATES[stream.state.value] : request.usage && plural(request.usage.output_tokens ?? 0, "token");
  return html`<${Panel} title="Answer" note=${note} tools=${text && html`<${Copy} text=${text} label="the answer" />`}>
    <${Coming} answer=${answer} text=${text} open=${open && stream.state.value === "open"} label="Text of the answer" />
    ${!text && !answer.calls.length && (request.output ? html`<${Parts} of=${request.output} />`
      : html`<p class="dim">${open ? "No text has come yet." : request.error ? "There is none." : "It has no text."}</p>`)}
    ${request.error && html`<p class="is-failed"><code>${request.error.code}</code> ${request.error.detail}</p>`}
  </${Panel}>`;
}
