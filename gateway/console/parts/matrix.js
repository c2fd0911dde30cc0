// What waits, by model and priority.
import { html } from "../html.js";
import { count, duration, number } from "../format.js";
import { barOf, pauseOf } from "../pauses.js";
import { link } from "../router.js";
import { Empty, Loaded, Panel } from "./panel.js";
import { Pause } from "./pauses.js";
import { Barred } from "./sign.js";

/** @param {{ queue: import("./depth.js").Queue }} props */
export function Matrix({ queue }) {
  return html`<${Panel} title="Waiting by model and priority" note="runnable and delayed, a column for each priority: 9 goes first" flush><${Loaded} of=${queue}>${(/** @type {Api.QueueState} */ data) => {
    if (!data.by_model.length) return html`<${Empty} title="Nothing waits." sign="ok"><p class="dim">${data.in_progress.count ? `${count(data.in_progress)} run now.` : "Workers take a request as soon as one comes."}</p></${Empty}>`;
    const priorities = data.by_priority.map((each) => each.priority);
    const largest = Math.max(1, ...data.by_both.map(waiting));
    return html`<table class="matrix"><thead><tr><th>Model</th>${priorities.map((each) => html`<th key=${each} class="num"><span class="hidden">Priority </span>${each}</th>`)}
        <th class="num">All</th><th class="num">Oldest</th><th><span class="hidden">Actions</span></th></tr></thead>
      <tbody>${data.by_model.map((row) => html`<tr key=${row.model}>
        <td><${Name} row=${row} bar=${barOf(data, row.model)} /></td>
        ${priorities.map((each) => html`<${Cell} key=${each} cell=${data.by_both.find((one) => one.model === row.model && one.priority === each)} largest=${largest} />`)}
        <td class="num strong">${number(waiting(row))}</td><td class="num">${duration(row.oldest_seconds)}</td>
        <td class="num">${row.model !== null && !pauseOf(data.pauses, row.model) && html`<${Pause} model=${row.model} done=${queue.reload} quiet />`}</td></tr>`)}</tbody>
      ${data.by_model.length > 1 && html`<tfoot><tr><th scope="row">All</th>${data.by_priority.map((each) => html`<td key=${each.priority} class="num">${count({ count: waiting(each), more: each.more })}</td>`)}
        <td class="num strong">${count({ count: data.by_priority.reduce((sum, each) => sum + waiting(each), 0), more: data.by_priority.some((each) => each.more) })}</td><td class="num">${duration(data.oldest_seconds)}</td><td></td></tr></tfoot>`}
    </table>${data.by_priority.some((each) => each.more) && html`<p class="under dim">At most 500 of each priority are counted.</p>`}`;
  }}</${Loaded}></${Panel}>`;
}

/** @param {{ runnable: number, delayed: number }} depth */
const waiting = ({ runnable, delayed }) => runnable + delayed;

/** @param {{ row: Api.DepthOfModel, bar: string }} props */
const Name = ({ row, bar }) => html`<span class="inline">${row.model === null ? html`<span class="dim">all others</span>` : html`<a class="wrap" href=${link("/requests", { model: row.model, status: "pending" })}>${row.model}</a>`}
  <${Barred} by=${bar} /></span>`;

/** @param {{ cell: Api.DepthOfBoth | undefined, largest: number }} props */
function Cell({ cell, largest }) {
  if (!cell) return html`<td class="num dim">·</td>`;
  const share = Math.round(8 + 34 * (waiting(cell) / largest));
  const said = [`${number(cell.runnable)} runnable`, cell.held && `${number(cell.held)} of them held back`, cell.paused && `${number(cell.paused)} of them paused`, cell.delayed && `${number(cell.delayed)} delayed`].filter(Boolean).join(", ");
  return html`<td class="num cell" title=${said} style=${{ backgroundColor: `color-mix(in srgb, var(--pending) ${share}%, transparent)` }}>${number(waiting(cell))}</td>`;
}
