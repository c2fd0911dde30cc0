// The audit: what people and keys have changed.
import { html } from "../html.js";
import { get, useLoaded } from "../api.js";
import { short } from "../format.js";
import { useEvery } from "../live.js";
import { link, linkIfAny, query, refine } from "../router.js";
import { ACTIONS, changeOf, placeOf, WITHOUT_CREDENTIALS } from "../audit.js";
import { Page } from "../parts/page.js";
import { Pager } from "../parts/pager.js";
import { Empty, Failure } from "../parts/panel.js";
import { Clock } from "../parts/time.js";

const LIMIT = 100;
const NAMES = ["action", "actor", "target", "created_after", "created_before"];

export default function Audit() {
  const filter = Object.fromEntries(NAMES.flatMap((name) => (query.value.get(name) ? [[name, query.value.get(name) ?? ""]] : [])));
  const cursor = query.value.get("cursor") ?? "";
  const page = useLoaded((abort) => get("/v1/audit", { query: { ...filter, cursor, limit: LIMIT }, abort }), [JSON.stringify(filter), cursor]);
  const users = useLoaded((abort) => get("/v1/users", { query: { limit: 1000 }, abort }), []);
  useEvery(5, () => !cursor && page.reload());
  const names = new Map((users.data ?? []).map((/** @type {Api.UserResource} */ each) => [`user:${each.id}`, each.username]));
  /** @type {Api.AuditEntry[]} */
  const rows = page.data?.data ?? [];
  const filtered = Object.keys(filter).length > 0;
  return html`<${Page} title="Audit" note="what people and keys have changed; never a text, never a secret">
    <section class="panel" aria-label="Changes">
      <${Filters} filter=${filter} />
      ${page.problem && !page.data && html`<${Failure} problem=${page.problem} again=${page.reload} />`}
      ${!page.data && !page.problem && html`<div class="loading" aria-busy="true"></div>`}
      ${page.data && !rows.length && !page.data.next && (filtered ? html`<${Empty} title="No change matches these filters."><p><a href=${link("/audit")}>Clear the filters</a></p></${Empty}>`
        : html`<${Empty} title="Nothing was changed yet."><p class="dim">Every change of users, keys, requests, conversations, records and pauses is noted here. Messages that are sent are not.</p></${Empty}>`)}
      ${rows.length > 0 && html`<div class="flush"><table class="cards audit"><thead><tr><th>When</th><th>By</th><th>What</th><th>Target</th><th>Change</th></tr></thead>
        <tbody>${rows.map((row) => html`<${Row} key=${row.id} row=${row} name=${names.get(row.actor)} />`)}</tbody></table></div>`}
      ${page.data && html`<${Pager} path="/audit" filter=${filter} cursor=${cursor} rows=${rows.length} next=${page.data.next} searchedTo=${page.data.searched_to} />`}
    </section>
  </${Page}>`;
}

/** @param {{ filter: Record<string, string> }} props */
function Filters({ filter }) {
  function submit(/** @type {SubmitEvent} */ event) {
    event.preventDefault();
    const form = new FormData(/** @type {HTMLFormElement} */ (event.currentTarget));
    refine({ ...Object.fromEntries(["action", "actor", "target"].map((name) => [name, String(form.get(name) ?? "").trim()])), cursor: undefined });
  }
  const field = (/** @type {string} */ name, /** @type {string} */ label, /** @type {string} */ hint) => html`<input name=${name} aria-label=${label} placeholder=${hint} value=${filter[name] ?? ""} spellcheck=${false} autocomplete="off" />`;
  return html`<form class="filters audited" onSubmit=${submit} key=${JSON.stringify(filter)}>
    <select name="action" aria-label="What" onChange=${(/** @type {any} */ event) => event.target.form.requestSubmit()}><option value="">all changes</option>
      ${ACTIONS.map((each) => html`<option key=${each} value=${each} selected=${filter["action"] === each}>${each}</option>`)}</select>
    ${field("actor", "Changed by", "by: user:ID, key:ID")}${field("target", "Target", "target: requests/ID")}
    <button type="submit">Filter</button>
    ${Object.keys(filter).length > 0 && html`<a href=${link("/audit")}>Clear</a>`}</form>`;
}

/** @param {{ row: Api.AuditEntry, name: string | undefined }} props */
function Row({ row, name }) {
  const place = placeOf(row.target);
  const href = place && linkIfAny(place);
  const [kind = "", ...rest] = row.target.split("/");
  const id = rest.join("/");
  const target = html`<span class="dim">${kind}/</span><span class="id">${short(id)}</span>`;
  return html`<tr>
    <td class="when"><${Clock} at=${row.created_at} /></td>
    <td class="actor"><a class="cut" href=${link("/audit", { actor: row.actor })} title=${`Only changes of ${row.actor}`}>${name ?? actor(row.actor)}</a></td>
    <td><code>${row.action}</code></td>
    <td class="target" title=${row.target}>${href ? html`<a href=${href}>${target}</a>` : target}</td>
    <td class="change">${changeOf(row).map(([field, before, after]) => html`<span class="tag" key=${field}><span class="dim">${field}</span> ${before !== undefined && html`<span class="dim">${after === undefined ? `was ${before}` : `${before} →`}</span> `}${after}</span>`)}</td></tr>`;
}

/** A credential as it is shown: a long id by its end. @param {string} text */
function actor(text) {
  if (text === WITHOUT_CREDENTIALS) return "no credentials";
  const [kind = "", ...rest] = text.split(":");
  return rest.length ? `${kind} ${short(rest.join(":"))}` : text;
}
