// The value of a dead letter: as text, as bytes, and how it differs from what came.
import { useState } from "preact/hooks";
import { html } from "../html.js";
import { decode, encode } from "../bytes.js";
import { plural } from "../format.js";
import { query, refine } from "../router.js";
import { Difference } from "./difference.js";
import { Hex } from "./hex.js";
import { Panel } from "./panel.js";

const VIEWS = /** @type {const} */ (["text", "hex", "difference"]);

/** @param {{ letter: Api.DeadLetterResource, came: import("../letter.js").Draft, draft: import("../letter.js").Draft,
 *    change: (draft: import("../letter.js").Draft) => void, undo?: (() => void) | undefined }} props */
export function LetterValue({ letter, came, draft, change, undo }) {
  const bytes = draft.value ?? new Uint8Array();
  const text = decode(bytes);
  const asked = query.value.get("view") ?? "";
  // It stays while the bytes become text.
  const [first] = useState(text === null ? "hex" : "text");
  const view = VIEWS.find((each) => each === asked) ?? first;
  const put = (/** @type {Uint8Array} */ value) => change({ ...draft, value });
  const tools = html`${undo && html`<button type="button" class="quiet" onClick=${undo}>Undo</button>`}
    <div class="segments" role="group" aria-label="Show the value as">${VIEWS.map((each) => html`<button key=${each} type="button" aria-pressed=${each === view} onClick=${() => refine({ view: each })}>
      ${each === "text" ? "Text" : each === "hex" ? "Hex" : "Difference"}</button>`)}</div>`;
  const note = draft.value === null ? notKept(letter) : `${plural(bytes.length, "byte")}${text === null ? ", not UTF-8" : ""}`;
  return html`<${Panel} title="Value" note=${note} tools=${tools} flush=${view === "hex"}>
    ${view === "text" && html`<${Text} text=${text} put=${put} />`}
    ${view === "hex" && html`<${Hex} bytes=${bytes} change=${put} undo=${undo ?? (() => {})} />`}
    ${view === "difference" && html`<${Difference} came=${came} draft=${draft} />`}
  </${Panel}>`;
}

/** @param {Api.DeadLetterResource} letter */
const notKept = ({ value_bytes: bytes }) => (bytes === null ? "the record has none" : `its ${plural(bytes, "byte")} were not kept; the topic has them`);

/** @param {{ text: string | null, put: (bytes: Uint8Array) => void }} props */
function Text({ text, put }) {
  if (text === null) return html`<p class="dim">Some bytes are not UTF-8, so there is no text of it. Edit them in <b>Hex</b>.</p>`;
  if (text.includes("\r")) return html`<p class="dim">It has carriage returns, which a text field would change. Edit it in <b>Hex</b>.</p><pre class="value">${text}</pre>`;
  return html`<textarea class="text mono" aria-label="Value as text" value=${text} rows=${Math.min(24, Math.max(5, text.split("\n").length + Math.ceil(text.length / 90)))}
    spellcheck=${false} autocomplete="off" onInput=${(/** @type {any} */ event) => put(encode(event.target.value))}></textarea>`;
}
