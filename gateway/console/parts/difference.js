// What a replay sends, against what came: in the value by characters, and key and headers by name.
import { html } from "../html.js";
import { decode, toBase64 } from "../bytes.js";
import { difference } from "../diff.js";
import { number } from "../format.js";
import { same } from "../letter.js";

/** @param {{ came: import("../letter.js").Draft, draft: import("../letter.js").Draft }} props */
export function Difference({ came, draft }) {
  if (same(came, draft)) return html`<p class="dim">Nothing was changed: a replay sends the record as it came.</p>`;
  const pieces = difference(came.value ?? new Uint8Array(), draft.value ?? new Uint8Array());
  const changed = pieces.some((piece) => piece.kind !== "same" && piece.kind !== "left_out");
  return html`${changed ? html`<pre class="diff" tabindex="0" role="region" aria-label="Difference of the value">${pieces.map(shown)}</pre>` : html`<p class="dim">The value is as it came.</p>`}
    <${Names} came=${came} draft=${draft} />`;
}

/** @param {import("../diff.js").Piece} piece @param {number} index */
function shown({ kind, text }, index) {
  if (kind === "gone") return html`<del key=${index}>${text}</del>`;
  if (kind === "new") return html`<ins key=${index}>${text}</ins>`;
  return kind === "same" ? text : html`<span key=${index} class="left-out">… ${number(Number(text))} equal characters …</span>`;
}

/** @param {{ came: import("../letter.js").Draft, draft: import("../letter.js").Draft }} props */
function Names({ came, draft }) {
  const [before, after] = [listed(came), listed(draft)];
  const gone = before.filter((each) => !after.includes(each));
  const made = after.filter((each) => !before.includes(each));
  if (!gone.length && !made.length) return null;
  return html`<ul class="names" aria-label="Difference of key and headers">${gone.map((each) => html`<li key=${`-${each}`}><del>${each}</del></li>`)}
    ${made.map((each) => html`<li key=${`+${each}`}><ins>${each}</ins></li>`)}</ul>`;
}

/** @param {import("../letter.js").Draft} draft */
const listed = ({ key, headers }) => [
  `key: ${key === null ? "none" : (decode(key) ?? `base64 ${toBase64(key)}`)}`,
  ...headers.map((each) => `${each.name}: ${each.value ?? (each.value_base64 === null ? "no value" : `base64 ${each.value_base64}`)}`),
];
