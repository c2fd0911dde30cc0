// The list of dead letters: records that could not become requests.
import { html } from "../html.js";
import { number, size } from "../format.js";
import { placeOf } from "../letter.js";
import { filterOf, useLetters } from "../lettersource.js";
import { link, query } from "../router.js";
import { useRows } from "../rows.js";
import { LetterFilter } from "../parts/letterfilter.js";
import { Page } from "../parts/page.js";
import { Pager } from "../parts/pager.js";
import { Empty, Failure } from "../parts/panel.js";
import { Resend } from "../parts/resend.js";
import { State } from "../parts/sign.js";
import { Ago } from "../parts/time.js";

const LIMIT = 50;

export default function Letters() {
  const filter = filterOf(query.value);
  const cursor = query.value.get("cursor") ?? "";
  const list = useLetters(filter, cursor, LIMIT);
  const { rows } = list;
  const here = useRows(rows, "/dead-letters", JSON.stringify([filter, cursor]), () => [
    { key: "n", text: "Show newer ones", run: () => list.newer && list.reload() },
  ]);
  const open = rows.some((row) => !row.replayed_at);
  return html`<${Page} title="Dead letters" note="records that could not become requests" tools=${open && filter["replayed"] !== "true" && html`<${Resend} filter=${filter} done=${list.reload} />`}>
    <section class="panel" aria-label="Dead letters">
      <${LetterFilter} filter=${filter} />
      ${list.newer > 0 && !cursor && html`<div class="newer"><button type="button" onClick=${list.reload}>${number(list.newer)}${list.newer >= LIMIT ? "+" : ""} newer <kbd>n</kbd></button></div>`}
      ${list.problem && html`<${Failure} problem=${list.problem} again=${list.reload} />`}
      ${!list.problem && !list.loading && !rows.length && !list.next && html`<${Nothing} filter=${filter} />`}
      ${list.loading && !rows.length && html`<div class="loading" aria-busy="true"></div>`}
      ${rows.length > 0 && html`<div class="flush" aria-busy=${list.loading}><table class="cards letters">
        <thead><tr><th>Dead letter</th><th>Reason</th><th>Why</th><th>Where</th><th class="num">Size</th><th class="num">Set aside</th><th class="num">Sent again</th></tr></thead>
        <tbody>${rows.map((row, index) => html`<${Row} key=${row.id} row=${row} here=${index === here} filter=${filter} />`)}</tbody></table></div>`}
      ${(rows.length > 0 || (!list.loading && !list.problem)) && html`<${Pager} path="/dead-letters" filter=${filter} cursor=${cursor} rows=${rows.length} next=${list.next} searchedTo=${list.searchedTo} />`}
    </section>
  </${Page}>`;
}

/** @param {{ row: Api.DeadLetterSummary, here: boolean, filter: Record<string, string> }} props */
const Row = ({ row, here, filter }) => html`<tr id=${`row-${row.id}`} class=${here ? "here" : ""}>
  <td class="first"><a class="id" href=${link(`/dead-letters/${row.id}`)}>${row.id}</a></td>
  <td><a class="reason" href=${link("/dead-letters", { ...filter, reason: row.reason })} title="Only those with this reason"><${State} of=${row.replayed_at ? "cancelled" : "failed"} sign="failed" word=${row.reason} /></a></td>
  <td class="what"><span class="cut" title=${row.detail}>${row.detail}</span></td>
  <td><span class="id">${placeOf(row)}</span></td>
  <td class="num" data-name="Size">${row.value_bytes === null ? "–" : size(row.value_bytes ?? 0)}</td>
  <td class="num" data-name="Set aside"><${Ago} at=${row.created_at} /></td>
  <td class="num" data-name="Sent again">${row.replayed_at ? html`<a href=${link(`/requests/${row.replayed_as}`)}><${Ago} at=${row.replayed_at} /></a>` : html`<span class="dim">never${row.edited_at ? ", edited" : ""}</span>`}</td>
</tr>`;

/** @param {{ filter: Record<string, string> }} props */
function Nothing({ filter }) {
  if (Object.keys(filter).length) {
    return html`<${Empty} title="No dead letter matches these filters."><p><a href=${link("/dead-letters")}>Clear the filters</a></p></${Empty}>`;
  }
  return html`<${Empty} title="No record was refused." sign="ok"><p class="dim">A record on <code>llm.requests</code> that cannot become a request is kept here with the reason, until it is as old as requests may be. It does not block the others.</p></${Empty}>`;
}
