// What is in a record: its headers, and its value as text or as bytes.
import { useState } from "preact/hooks";
import { html } from "../html.js";
import { bytesOf, encode } from "../bytes.js";
import { size } from "../format.js";
import { Dump } from "./dump.js";
import { Facts } from "./panel.js";

/** @param {{ of: Api.TopicRecord }} props */
export function RecordContents({ of }) {
  const [view, setView] = useState(/** @type {"text" | "hex"} */ (of.format === "base64" ? "hex" : "text"));
  const text = of.value ?? "";
  const views = of.format === "json" || of.format === "text";
  return html`<div class="contents"><${Facts} rows=${[["key", of.key ?? of.key_base64], ...(of.headers ?? []).map((each) => /** @type {[string, any]} */ ([each.name, html`<code class="wrap">${each.value ?? each.value_base64 ?? "no value"}</code>`]))]} />
    ${of.format === "unread" && html`<p class="dim">${text}</p>`}
    ${views && html`<div class="segments" role="group" aria-label="Show the value as">${/** @type {const} */ (["text", "hex"]).map((each) => html`<button key=${each} type="button" aria-pressed=${each === view} onClick=${() => setView(each)}>${each === "text" ? "Text" : "Hex"}</button>`)}</div>`}
    ${views && view === "text" && html`<pre class="value" tabindex="0" role="region" aria-label="Value">${of.format === "json" ? pretty(text) : text}</pre>`}
    ${(of.format === "base64" || (views && view === "hex")) && html`<${Dump} label="Value in hexadecimal digits" bytes=${(of.format === "base64" ? bytesOf(null, text) : encode(text)) ?? new Uint8Array()} />`}
    ${of.cut && of.format !== "unread" && html`<p class="dim">The beginning is shown; the value has ${size(of.value_bytes ?? 0)}.</p>`}</div>`;
}

/** JSON in lines, unless something in it would change by being read, such as a long number. @param {string} text */
function pretty(text) {
  try {
    const read = JSON.parse(text);
    const spaces = /"(?:[^"\\]|\\.)*"|\s+/g;
    const bare = text.replace(spaces, (found) => (found.startsWith('"') ? found : ""));
    return JSON.stringify(read) === bare ? JSON.stringify(read, null, 2) : text;
  } catch {
    return text;
  }
}
