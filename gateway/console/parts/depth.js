// The queue as it is now: by priority, by model, and what comes next.
import { html } from "../html.js";
import { cents, compact, count, duration, number, plural, short } from "../format.js";
import { barOf } from "../pauses.js";
import { link } from "../router.js";
import { Empty, Loaded, Panel } from "./panel.js";
import { Barred } from "./sign.js";

/** @typedef {{ data: Api.QueueState | undefined, problem: any, reload: () => void }} Queue */

/** @param {{ queue: Queue }} props */
export function Depth({ queue }) {
  return html`<${Panel} title="Waiting by priority" note="highest first" flush><${Loaded} of=${queue}>${(/** @type {Api.QueueState} */ data) => {
    const largest = Math.max(1, ...data.by_priority.map((each) => each.runnable + each.delayed));
    if (!data.by_priority.length) return html`<${Empty} title="Nothing waits." sign="ok">${behind(data)}</${Empty}>`;
    return html`<table><thead><tr><th>Priority</th><th class="num">Runnable</th><th class="extra"></th><th class="num">Held back</th><th class="num extra">Paused</th><th class="num">Delayed</th><th class="num">Oldest</th></tr></thead>
      <tbody>${data.by_priority.map((each) => html`<tr key=${each.priority}>
        <td>${each.priority}</td><td class="num">${count({ count: each.runnable, more: each.more })}</td>
        <td class="bar extra"><span class="meter"><i class="is-pending" style=${{ width: `${(each.runnable / largest) * 100}%` }}></i></span></td>
        <td class="num">${each.held || "–"}</td><td class="num extra">${each.paused || "–"}</td><td class="num">${each.delayed || "–"}</td><td class="num">${duration(each.oldest_seconds)}</td>
      </tr>`)}</tbody></table>${data.waiting.count > 0 && html`<p class="under dim">${behind(data)}</p>`}`;
  }}</${Loaded}></${Panel}>`;
}

/** @param {Api.QueueState} queue */
const behind = ({ waiting }) => (waiting.count ? `${plural(waiting, "more waits behind another request of its conversation", "more wait behind another request of their conversation")}.` : "");

/** @param {{ queue: Queue, stats: { data: Api.StatsAnswer | undefined } }} props */
export function Models({ queue, stats }) {
  return html`<${Panel} title="By model" note="last hour" flush><${Loaded} of=${queue}>${(/** @type {Api.QueueState} */ data) => {
    const rows = rowsOf(data, stats.data);
    if (!rows.length) return html`<${Empty} title="No model was asked in the last hour." />`;
    return html`<table><thead><tr><th>Model</th><th class="num">Waiting</th><th class="num">Answered</th><th class="num">Failed</th><th class="num extra">Tokens</th><th class="num">Cost</th></tr></thead>
      <tbody>${rows.map((row) => html`<tr key=${row.model}>
        <td class="wrap">${row.model === null ? html`<span class="dim">all others</span>` : html`<a href=${link("/requests", { model: row.model })}>${row.model}</a>`} <${Barred} by=${barOf(data, row.model)} /></td>
        <td class="num">${number(row.waiting)}</td><td class="num">${number(row.completed)}</td>
        <td class=${`num ${row.failed ? "is-failed" : ""}`}>${number(row.failed)}</td><td class="num extra">${compact(row.tokens)}</td><td class="num">${cents(row.cost)}</td>
      </tr>`)}</tbody></table>`;
  }}</${Loaded}></${Panel}>`;
}

/** @param {Api.QueueState} queue @param {Api.StatsAnswer | undefined} stats */
function rowsOf(queue, stats) {
  /** @type {Map<string | null, { model: string | null, waiting: number, completed: number, failed: number, tokens: number, cost: number }>} */
  const rows = new Map();
  const row = (/** @type {string | null} */ model) => {
    const made = rows.get(model) ?? { model, waiting: 0, completed: 0, failed: 0, tokens: 0, cost: 0 };
    rows.set(model, made);
    return made;
  };
  for (const each of queue.by_model) row(each.model).waiting += each.runnable + each.delayed;
  for (const each of stats?.data ?? []) {
    const found = row(each.key);
    found.completed += each.completed;
    found.failed += each.failed;
    found.tokens += each.input_tokens + each.output_tokens;
    found.cost += each.cost;
  }
  return [...rows.values()].sort((a, b) => b.waiting - a.waiting || b.completed - a.completed).slice(0, 12);
}

/** What workers take first; behind it what they do not take now. @param {{ queue: Queue }} props */
export function Head({ queue }) {
  return html`<${Panel} title="Next in line" note="by priority, then by age" flush><${Loaded} of=${queue}>${(/** @type {Api.QueueState} */ data) => {
    if (!data.head.length) return html`<${Empty} title="No request can be taken now." sign="ok">${data.delayed.count > 0 && html`<p class="dim">${count(data.delayed)} delayed.</p>`}</${Empty}>`;
    const rows = data.head.map((each) => ({ each, bar: barOf(data, each.model) })).sort((a, b) => Number(!!a.bar) - Number(!!b.bar));
    return html`<table class="cards line"><thead><tr><th>Request</th><th>Whose</th><th>Model</th><th class="num">Priority</th><th class="num">Waited</th></tr></thead>
      <tbody>${rows.map(({ each, bar }) => html`<tr key=${each.id} class=${bar && "over"}>
        <td><a class="id" href=${link(`/requests/${each.id}`)} title=${each.id}>${short(each.id)}</a></td><td class="name">${each.owner ?? html`<span class="dim">the tenant</span>`}</td>
        <td><span class="inline"><span>${each.model}</span>${bar ? html`<${Barred} by=${bar} />` : each.last_error && html`<code class="dim">${each.last_error}</code>`}</span></td>
        <td class="num" data-name="Priority">${each.priority}</td><td class="num" data-name="Waited">${duration(each.waited_seconds)}</td>
      </tr>`)}</tbody></table>`;
  }}</${Loaded}></${Panel}>`;
}
