// "What needs you".
import { html } from "../html.js";
import { findings } from "../findings.js";
import { linkIfAny } from "../router.js";
import { Panel } from "./panel.js";
import { Sign } from "./sign.js";
import { StartWorker } from "./startworker.js";

/** @param {{ seen: Parameters<typeof findings>[0] | undefined }} props */
export function Findings({ seen }) {
  const found = seen ? findings(seen) : [];
  const note = found.length ? `${found.length}` : "";
  return html`<${Panel} title="What needs you" note=${note} flush class="needs">
    ${!seen && html`<ul class="findings"><li class="dim">Waiting for the first numbers …</li></ul>`}
    ${seen && !found.length && html`<ul class="findings"><li><${Sign} name="ok" tone="ok" /><p>Nothing needs you.</p></li></ul>`}
    ${found.length > 0 && html`<ul class="findings">${found.map((each) => html`<${Item} key=${each.text.join("")} of=${each} />`)}</ul>`}
  </${Panel}>`;
}

const KINDS = { bad: "Urgent", warn: "Look at this", info: "To know" };

/** @param {{ of: import("../findings.js").Finding }} props */
function Item({ of }) {
  const href = of.path && linkIfAny(of.path, of.query);
  return html`<li><${Sign} name=${of.kind} tone=${of.kind} /><span class="hidden">${KINDS[of.kind]}:</span><p>${of.text.map((part, index) => (index % 2 ? html`<code key=${index}>${part}</code>` : part))}${of.starts && html` <${StartWorker} />`}</p>
    ${href && html`<a href=${href}>${of.look}</a>`}</li>`;
}
