// The list of conversations, newest first.
import { html } from "../html.js";
import { get, useLoaded } from "../api.js";
import { number, short } from "../format.js";
import { useEvery } from "../live.js";
import { link, linkIfAny, query } from "../router.js";
import { useRows } from "../rows.js";
import { Copy } from "../parts/copy.js";
import { Page } from "../parts/page.js";
import { Empty, Failure, Panel } from "../parts/panel.js";
import { Sign } from "../parts/sign.js";
import { Ago } from "../parts/time.js";

const LIMIT = 50;

export default function Conversations() {
  const cursor = query.value.get("cursor") ?? "";
  const page = useLoaded((abort) => get("/v1/conversations", { query: { limit: LIMIT, cursor }, abort }), [cursor]);
  /** @type {Api.ConversationResource[]} */
  const rows = page.data?.data ?? [];
  const top = rows[0]?.id;
  const branches = rows.some((row) => row.branch_of);
  const here = useRows(rows, "/conversations", cursor);
  // The newest page follows what happens, unless someone moves through it.
  useEvery(5, () => here < 0 && page.reload());
  const play = linkIfAny("/playground");
  return html`<${Page} title="Conversations" tools=${play && html`<a class="button" href=${play}>Begin one</a>`}>
    <${Panel} title="Newest first" flush>
      ${page.problem && !page.data && html`<${Failure} problem=${page.problem} again=${page.reload} />`}
      ${!page.data && !page.problem && html`<div class="loading" aria-busy="true"></div>`}
      ${page.data && !rows.length && html`<${Nothing} />`}
      ${rows.length > 0 && html`<table class="cards conversations" key=${top}><thead><tr><th>How it begins</th><th>Conversation</th><th>State</th><th>What its client noted</th>${branches && html`<th>Branch of</th>`}<th class="num">Created</th></tr></thead>
        <tbody>${rows.map((row, index) => html`<${Row} key=${row.id} row=${row} here=${index === here} branches=${branches} />`)}</tbody></table>
        <footer class="pager"><span class="dim">${number(rows.length)} ${cursor ? "older" : "newest"}${page.data.next ? "; there are more" : "; these are all"}</span>
          ${cursor && html`<a class="button" href=${link("/conversations")}>Newest</a>`}
          ${page.data.next && html`<a class="button" href=${link("/conversations", { cursor: page.data.next })}>Older</a>`}</footer>`}
    </${Panel}>
  </${Page}>`;
}

/** @param {{ row: Api.ConversationResource, here: boolean, branches: boolean }} props */
function Row({ row, here, branches }) {
  const open = row.open_requests.length;
  const noted = Object.entries(row.metadata);
  const href = link(`/conversations/${row.id}`);
  return html`<tr id=${`row-${row.id}`} class=${here ? "here" : ""}>
    <td class="what"><a class=${row.beginning ? "cut" : "cut dim"} href=${href}>${row.beginning ?? (open ? "not answered yet" : "nothing was said yet")}</a></td>
    <td><span class="inline"><a class="id" href=${href} title=${row.id}>${short(row.id)}</a><${Copy} text=${row.id} label="the id" /></span></td>
    <td>${open ? html`<span class="state is-in_progress"><${Sign} name="in_progress" />${number(open)} open</span>` : html`<span class="dim">idle</span>`}</td>
    <td class="noted" data-none=${noted.length ? undefined : ""}>${noted.map(([name, value]) => html`<span class="tag" key=${name}><span class="dim">${name}</span> ${value}</span>`)}</td>
    ${branches && html`<td data-name="branch of" data-none=${row.branch_of ? undefined : ""}>${row.branch_of ? html`<a class="id" href=${link(`/conversations/${row.branch_of}`)} title=${row.branch_of}>${short(row.branch_of)}</a>` : html`<span class="dim">–</span>`}</td>`}
    <td class="num"><${Ago} at=${row.created_at} /></td></tr>`;
}

function Nothing() {
  const body = '{"messages":[{"role":"user","content":"Hello"}]}';
  return html`<${Empty} title="There is no conversation yet."><p class="dim">Each message that names none begins one. Requests by OpenAI's API have their own, which are in no list.</p>
    <pre>curl -s ${location.origin}/v1/messages -d '${body}'</pre></${Empty}>`;
}
