// The events of a request as a client receives them. Any of them can be the one behind which a stream resumes.
import { html } from "../html.js";
import { clock, number } from "../format.js";
import { now } from "../live.js";
import { Panel } from "./panel.js";

const MAX_SHOWN = 300;

/** @param {{ stream: import("../stream.js").Stream }} props */
export function Events({ stream }) {
  const events = stream.events.value;
  const from = stream.from.value;
  const tools = html`${from && html`<span class="dim">resumed after <code>${from}</code></span>`}
    <button type="button" onClick=${() => stream.open()}>From the beginning</button>`;
  return html`<${Panel} title="Events" note="as a client receives them" tools=${tools} flush>
    ${!events.length && html`<p class="empty dim">${stream.state.value === "ended" ? "No event follows." : "No event has come yet."}</p>`}
    ${events.length > 0 && html`<table class="cards events"><thead><tr><th>Id</th><th>Event</th><th>Data</th><th class="num">Received</th><th></th></tr></thead><tbody>
      ${events.map((event, index) => html`<tr key=${index}>
        <td class="id">${event.id || html`<span class="dim">–</span>`}</td>
        <td class="kind"><code>${event.name}</code>${event.count > 1 && html` <span class="dim">× ${number(event.count)}</span>`}</td>
        <td class="data"><span class="cut mono">${shown(event)}</span></td>
        <td class="num">${clock(new Date(event.at).toISOString(), now.peek())}</td>
        <td class="num">${event.id && !event.id.endsWith(".end") && html`<button type="button" class="quiet" onClick=${() => stream.open(event.id)}>Resume from here</button>`}</td>
      </tr>`)}</tbody></table>`}
  </${Panel}>`;
}

/** @param {import("../stream.js").Event} event */
const shown = ({ name, data }) => JSON.stringify(name.endsWith("delta") ? data.text : data)?.slice(0, MAX_SHOWN);
