// The contents of a message: texts, files and media by name, calls of tools, reasoning. Texts are text.
import { useLayoutEffect, useRef } from "preact/hooks";
import { html } from "../html.js";
import { size } from "../format.js";

/**
 * @param {{ of: any, calls?: any[] }} props  a text, parts as clients send them, or items as models answer
 */
export function Parts({ of, calls = [] }) {
  const parts = typeof of === "string" ? (of ? [{ type: "text", text: of }] : []) : (of ?? []);
  return html`${parts.map((/** @type {any} */ part, /** @type {number} */ index) => html`<${Part} key=${index} of=${part} />`)}
    ${(calls ?? []).map((call) => html`<${Call} key=${call.id} name=${call.function?.name} text=${call.function?.arguments} />`)}`;
}

/** Keep the end of a growing text in sight, as long as its reader has not scrolled away from it. @param {string} text */
function useFollowing(text) {
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const atEnd = useRef(true);
  const element = box.current;
  if (element) atEnd.current = element.scrollHeight - element.scrollTop - element.clientHeight < 24;
  useLayoutEffect(() => {
    if (text && box.current && atEnd.current) box.current.scrollTop = box.current.scrollHeight;
  }, [text]);
  return box;
}

const LONG = 1600;

/**
 * A text; a long one scrolls, and while it grows its end stays in sight.
 * @param {{ text: string, open?: boolean, tone?: string, label?: string }} props  `label`: it is a region of this name, also if it is short
 */
export function Said({ text, open = false, tone = "", label = "" }) {
  const following = useFollowing(open ? text : "");
  const caret = open && html`<span class="caret" aria-hidden="true"></span>`;
  if (text.length < LONG && !label) return html`<p class=${`said ${tone}`}>${text}${caret}</p>`;
  return html`<p class=${`said long ${tone}`} tabindex="0" role="region" aria-label=${label || "A long text"} ref=${following}>${text}${caret}</p>`;
}

/**
 * An answer as it comes: reasoning, calls of tools, and its text.
 * @param {{ answer: import("../stream.js").Answer, text?: string, open: boolean, expanded?: boolean, label?: string }} props
 *   `text`: instead of what has come. `open`: more is coming. `expanded`: the reasoning is shown at once. `label`: of the text
 */
export function Coming({ answer, text = answer.text, open, expanded = false, label = "" }) {
  return html`${answer.reasoning && html`<${Reasoning} open=${expanded}><p class="said">${answer.reasoning}</p></${Reasoning}>`}
    ${answer.calls.map((call, index) => html`<${Call} key=${index} name=${call.name} text=${call.arguments} />`)}
    ${text && html`<${Said} text=${text} open=${open} label=${label} />`}`;
}

/** @param {{ open?: boolean, children?: any }} props */
const Reasoning = ({ open = false, children }) => html`<details class="reasoning" open=${open}><summary>Reasoning</summary><div class="dim">${children}</div></details>`;

/** @param {{ of: any }} props */
function Part({ of }) {
  switch (of.type) {
    case "text":
    case "output_text":
    case "reasoning_text": return html`<${Said} text=${String(of.text ?? "")} />`;
    case "refusal": return html`<${Said} text=${String(of.refusal ?? "")} tone="is-failed" />`;
    case "message": return html`<${Parts} of=${of.content} />`;
    case "reasoning": return html`<${Reasoning}><${Parts} of=${of.content} /></${Reasoning}>`;
    case "function_call": return html`<${Call} name=${of.name} text=${of.arguments} />`;
    default: return html`<${Media} of=${of} />`;
  }
}

/** A call of a tool. @param {{ name: string, text: string }} props */
const Call = ({ name, text }) => html`<pre class="callbox" tabindex="0" aria-label=${`Call of the tool ${name}`}>${name}(${text})</pre>`;

/** A file, picture or recording: what it is and where it is, never itself. @param {{ of: any }} props */
function Media({ of }) {
  const inside = of.image_url ?? of.input_audio ?? of.file ?? {};
  const id = inside.file_id;
  const data = inside.url ?? inside.data ?? inside.file_data ?? "";
  const inline = typeof data === "string" && data.startsWith("data:");
  const what = inline ? `${data.slice(5, 60).split(/[;,]/)[0]}, ${size(Math.round(data.length * 0.75))}` : inside.format ?? "";
  return html`<p class="attached"><code>${of.type}</code> ${inside.filename && html`<span>${inside.filename}</span> `}
    ${id && html`<span class="id">${id}</span> `}${what && html`<span class="dim">${what}</span>`}
    ${!inline && inside.url && html`<span class="wrap mono">${inside.url}</span>`}</p>`;
}
