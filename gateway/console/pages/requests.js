// The list of requests.
import { useEffect, useState } from "preact/hooks";
import { html } from "../html.js";
import { address } from "../api.js";
import { number, plural } from "../format.js";
import { filterOf } from "../filters.js";
import { useList } from "../list.js";
import { frame } from "../live.js";
import { link, query } from "../router.js";
import { useRows } from "../rows.js";
import { may } from "../session.js";
import { Actions } from "../parts/actions.js";
import { Copy } from "../parts/copy.js";
import { FilterBar } from "../parts/filterbar.js";
import { Page } from "../parts/page.js";
import { Pager } from "../parts/pager.js";
import { Empty, Failure } from "../parts/panel.js";
import { columnsOf, Head, Row } from "../parts/row.js";

const LIMIT = 50;

export default function Requests() {
  const filter = filterOf(query.value);
  const cursor = query.value.get("cursor") ?? "";
  const list = useList(filter, cursor, LIMIT);
  const [chosen, choose] = useState(/** @type {Set<string>} */ (new Set()));
  const key = JSON.stringify([filter, cursor]);
  useEffect(() => choose(new Set()), [key]);
  const rows = list.rows;
  const toggle = (/** @type {string} */ id) => choose((before) => toggled(before, id));
  const here = useRows(rows, "/requests", key, (at) => [
    { key: "x", text: "Choose the row", run: () => at && toggle(at.id) },
    { key: "n", text: "Show newer ones", run: () => list.newer && list.reload() },
  ]);
  const every = rows.length > 0 && rows.every((row) => chosen.has(row.id));
  const curl = `curl -s '${location.origin}${address("/v1/requests", {}, { ...filter, cursor, limit: LIMIT })}'`;
  const box = (/** @type {any} */ row) => html`<input type="checkbox" aria-label=${`Choose ${row.id}`} checked=${chosen.has(row.id)} onChange=${() => toggle(row.id)} />`;
  const columns = columnsOf(rows);
  const steers = may("write") || may("operate");
  return html`<${Page} title="Requests" tools=${html`<span class="inline dim">This list as curl<${Copy} text=${curl} label="this list as a curl command" /></span>`}>
    <section class="panel" aria-label="Requests">
      <${FilterBar} />
      ${frame.value?.unread > 0 && html`<p class="above dim">${plural(frame.value.unread, "accepted record is", "accepted records are")} not in this list yet: no worker has read ${frame.value.unread === 1 ? "it" : "them"}. <a href=${link("/queue")}>Queue</a></p>`}
      ${list.newer > 0 && html`<div class="newer"><button type="button" onClick=${list.reload}>${number(list.newer)}${list.newer >= LIMIT ? "+" : ""} newer <kbd>n</kbd></button></div>`}
      ${list.problem && html`<${Failure} problem=${list.problem} again=${list.reload} />`}
      ${!list.problem && !list.loading && !rows.length && !list.next && html`<${Nothing} filter=${filter} />`}
      ${rows.length > 0 && html`<div class="flush" aria-busy=${list.loading}><table class="cards requests">
        <${Head} columns=${columns} choice=${steers && html`<input type="checkbox" aria-label="Choose all on this page" checked=${every} onChange=${() => choose(every ? new Set() : new Set(rows.map((row) => row.id)))} />`} />
        <tbody>${rows.map((row, index) => html`<${Row} key=${row.id} row=${row} columns=${columns} here=${index === here} chosen=${chosen.has(row.id)} choice=${steers && box(row)} />`)}</tbody>
      </table></div>`}
      ${(rows.length > 0 || (!list.loading && !list.problem)) && html`<${Pager} path="/requests" filter=${filter} cursor=${cursor} rows=${rows.length} next=${list.next} searchedTo=${list.searchedTo} />`}
    </section>
    ${chosen.size > 0 && html`<${Actions} chosen=${[...chosen]} filter=${filter} done=${() => { choose(new Set()); list.reload(); }} clear=${() => choose(new Set())} />`}
  </${Page}>`;
}

/** @param {Set<string>} before @param {string} id */
function toggled(before, id) {
  const after = new Set(before);
  if (!after.delete(id)) after.add(id);
  return after;
}

/** @param {{ filter: Record<string, string> }} props */
function Nothing({ filter }) {
  if (Object.keys(filter).length) {
    return html`<${Empty} title="No request matches these filters."><p><a href=${link("/requests")}>Clear the filters</a></p></${Empty}>`;
  }
  const body = '{"model":"simulated","messages":[{"role":"user","content":"Hello"}]}';
  return html`<${Empty} title="There is no request yet."><p class="dim">This sends one:</p><pre>curl -s ${location.origin}/v1/messages -d '${body}'</pre></${Empty}>`;
}
