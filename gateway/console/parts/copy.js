// A text that can be copied: an id, a command.
import { useState } from "preact/hooks";
import { html } from "../html.js";
import { notify } from "../notices.js";
import { Sign } from "./sign.js";

/** @param {{ text: string, label: string }} props */
export function Copy({ text, label }) {
  const [done, set] = useState(false);
  async function copy() {
    try {
      await (navigator.clipboard ? navigator.clipboard.writeText(text) : copyOverHttp(text));
      set(true);
      setTimeout(() => set(false), 1500);
    } catch {
      notify("The browser does not allow copying", "bad");
    }
  }
  return html`<button type="button" class="icon" aria-label=${done ? "Copied" : `Copy ${label}`} title=${`Copy ${label}`} onClick=${copy}>
    <${Sign} name=${done ? "ok" : "copy"} tone=${done ? "ok" : ""} /></button>`;
}

/** A command for a terminal. @param {{ text: string }} props */
export const Command = ({ text }) => html`<span class="inline command"><code>${text}</code><${Copy} text=${text} label=${`the command ${text}`} /></span>`;

/** Without TLS a page has no clipboard, except on this machine. @param {string} text */
function copyOverHttp(text) {
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "hidden";
  document.body.append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  if (!copied) throw new Error("not copied");
}
