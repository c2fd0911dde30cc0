// Models that refuse calls, so that workers hold their requests back.
import { html } from "../html.js";
import { plural, relative } from "../format.js";
import { now } from "../live.js";
import { link } from "../router.js";
import { Empty, Loaded, Panel } from "./panel.js";
import { Sign } from "./sign.js";
import { Clock } from "./time.js";

/** @param {{ queue: import("./depth.js").Queue }} props */
export function Held({ queue }) {
  return html`<${Panel} title="Held back" note="models that refuse calls" flush><${Loaded} of=${queue}>${(/** @type {Api.QueueState} */ data) => {
    if (!data.held.length) return html`<${Empty} title="No model refuses calls." sign="ok"><p class="dim">When one does, its requests wait here until a worker's next try.</p></${Empty}>`;
    return html`<ul class="findings">${data.held.map((each) => html`<li key=${each.model}><${Sign} name="warn" tone="warn" />
      <p><a href=${link("/requests", { model: each.model, status: "pending" })}>${each.model}</a> <code>${each.code ?? "unknown"}</code> ${each.detail}
        <br /><span class="dim">The next call not before <${Clock} at=${each.until} /> (${relative(each.until, now.value)}); ${plural(each.workers, "worker holds", "workers hold")} it back.</span></p></li>`)}</ul>`;
  }}</${Loaded}></${Panel}>`;
}
