// One request in a list.
import { html } from "../html.js";
import { compact, number, short } from "../format.js";
import { isOpen } from "../list.js";
import { link } from "../router.js";
import { may } from "../session.js";
import { State } from "./sign.js";
import { Ago, Took } from "./time.js";

/** Characters of an answer. */
const MAX_SHOWN = 120;

/** Which columns say something. @typedef {{ owner?: boolean, priority?: boolean, type?: boolean, attempts?: boolean }} Columns */

/** @param {any[]} rows @returns {Columns} */
export const columnsOf = (rows) => ({
  owner: (may("operate") || may("admin")) && rows.some((row) => row.owner), priority: new Set(rows.map((row) => row.priority)).size > 1,
  type: rows.some((row) => row.task_type || row.door), attempts: rows.some((row) => row.attempts > 1),
});

/** @param {{ columns: Columns, choice?: any }} props */
export const Head = ({ columns, choice }) => html`<thead><tr>
  ${choice && html`<th class="choice">${choice}</th>`}<th>State</th><th>Request</th>${columns.owner && html`<th>Whose</th>`}<th>Model</th>
  ${columns.type && html`<th class="spare">Type</th>`}${columns.priority && html`<th class="num">Priority</th>`}${columns.attempts && html`<th class="num spare">Attempts</th>`}<th class="num spare">Tokens</th>
  <th class="num">Took</th><th class="num">Created</th><th>What happened</th></tr></thead>`;

/** @param {{ row: any, columns: Columns, here?: boolean, chosen?: boolean, choice?: any }} props */
export function Row({ row, columns, here = false, chosen = false, choice }) {
  const usage = row.usage ? (row.usage.input_tokens ?? 0) + (row.usage.output_tokens ?? 0) : undefined;
  return html`<tr id=${`row-${row.id}`} class=${`${here ? "here" : ""} ${chosen ? "chosen" : ""}`}>
    ${choice && html`<td class="choice">${choice}</td>`}
    <td class="first"><${State} of=${row.status} cancelling=${row.cancel_requested} /></td>
    <td class="second"><a class="id" href=${link(`/requests/${row.id}`)} title=${row.id}>${short(row.id)}</a></td>
    ${columns.owner && html`<td class="name" data-none=${row.owner ? undefined : ""}>${row.owner ?? html`<span class="dim">–</span>`}</td>`}
    <td class="name">${row.model ?? html`<span class="dim">–</span>`}</td>
    ${columns.type && html`<td class="name spare" data-none=${row.task_type || row.door ? undefined : ""}>${row.task_type ?? row.door ?? "–"}</td>`}
    ${columns.priority && html`<td class="num" data-name="Priority" data-none=${row.priority === 5 ? "" : undefined}>${row.priority ?? "–"}</td>`}
    ${columns.attempts && html`<td class="num spare" data-name="Attempts" data-none=${(row.attempts ?? 0) > 1 ? undefined : ""}>${number(row.attempts)}</td>`}
    <td class="num spare" data-name="Tokens" data-none=${usage ? undefined : ""}>${usage ? compact(usage) : "–"}</td>
    <td class="num" data-name=${isOpen(row) ? "So far" : "Took"}><${Took} from=${row.created_at} to=${row.finished_at} /></td>
    <td class="num" data-name="Created"><${Ago} at=${row.created_at} /></td>
    <td class="what"><${What} row=${row} /></td>
  </tr>`;
}

/** Why it failed, what its last attempt met, or how its answer begins. @param {{ row: any }} props */
function What({ row }) {
  const error = row.error ?? (isOpen(row) ? row.last_error : null);
  if (error) return html`<span class="cut" title=${error.detail}><code>${error.code}</code> <span class="dim">${error.detail}</span></span>`;
  if (row.retry_of) return html`<span class="dim">retry of <a class="id" href=${link(`/requests/${row.retry_of}`)}>${short(row.retry_of)}</a></span>`;
  if (row.finish_reason && row.finish_reason !== "stop") return html`<span class="dim">ended by <code>${row.finish_reason}</code></span>`;
  return row.reply ? html`<span class="cut dim">${row.reply.slice(0, MAX_SHOWN)}</span>` : null;
}
