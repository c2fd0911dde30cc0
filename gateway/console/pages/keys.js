// API keys: credentials of programs. A user sees their own, an admin all.
import { useState } from "preact/hooks";
import { html } from "../html.js";
import { get, useLoaded } from "../api.js";
import { number } from "../format.js";
import { now } from "../live.js";
import { link, query } from "../router.js";
import { may, session } from "../session.js";
import { Again } from "../parts/again.js";
import { Copy } from "../parts/copy.js";
import { CreateKey, RevokeKey, ShowKey } from "../parts/keyactions.js";
import { Page } from "../parts/page.js";
import { Empty, Failure, Panel } from "../parts/panel.js";
import { Sign } from "../parts/sign.js";
import { Ago } from "../parts/time.js";
import { OwnPassword } from "../parts/useractions.js";

const LIMIT = 50;

/** @typedef {{ kind: "create" | "password" } | { kind: "revoke", key: Api.KeyResource } | { kind: "made", key: Api.CreatedKey }} Asked */

export default function Keys() {
  const caller = session.value?.caller;
  const admin = may("admin");
  const cursor = query.value.get("cursor") ?? "";
  // A program's key may not list keys.
  const lists = admin || !!caller?.user_id;
  const keys = useLoaded((abort) => (lists ? get("/v1/keys", { query: { limit: LIMIT, cursor }, abort }) : Promise.resolve({ data: [], next: null })), [cursor, lists]);
  const users = useLoaded((abort) => (admin ? get("/v1/users", { query: { limit: 1000 }, abort }) : Promise.resolve([])), [admin]);
  const [asked, ask] = useState(/** @type {Asked | null} */ (null));
  const signedIn = !!caller?.username && !caller.key_id;
  const names = new Map((users.data ?? []).map((/** @type {Api.UserResource} */ each) => [each.id, each.username]));
  /** @type {Api.KeyResource[]} */
  const rows = keys.data?.data ?? [];
  const close = () => ask(null);
  const creates = may("write") && (admin || signedIn);
  const tools = html`${signedIn && html`<button type="button" onClick=${() => ask({ kind: "password" })}>Change password …</button>`}
    ${creates && html`<button type="button" class="primary" onClick=${() => ask({ kind: "create" })}>New key</button>`}`;
  return html`<${Page} title="Keys" tools=${tools}>
    <${Panel} title=${admin ? "All API keys" : "Your API keys"} note="credentials of programs" flush>
      ${keys.problem && !keys.data && html`<${Failure} problem=${keys.problem} again=${keys.reload} />`}
      ${!keys.data && !keys.problem && html`<div class="loading" aria-busy="true"></div>`}
      ${keys.data && !rows.length && (lists ? html`<${Empty} title="There is no key yet."><p class="dim">A key is for one program. It can be revoked without touching any other, and its secret is shown once.</p></${Empty}>`
        : html`<${Empty} title="The key of a program sees no keys." sign="warn"><p class="dim">Sign in with a password, or with a key of an admin.</p></${Empty}>`)}
      ${rows.length > 0 && html`<table class="cards keys"><thead><tr><th>State</th><th>What it is for</th><th>Id</th>${admin && html`<th>Whose</th>`}<th>Scopes</th>
        <th class="num">Created</th><th class="num">Last used</th><th class="num">Expires</th><th></th></tr></thead>
        <tbody>${rows.map((key) => html`<${Row} key=${key.id} of=${key} admin=${admin} owner=${key.user_id ? (names.get(key.user_id) ?? key.user_id) : null} revoke=${() => ask({ kind: "revoke", key })} />`)}</tbody></table>
        <footer class="pager"><span class="dim">${number(rows.length)} ${cursor ? "older" : "newest"}${keys.data.next ? "; there are more" : "; these are all"}</span>
          ${cursor && html`<a class="button" href=${link("/keys")}>Newest</a>`}
          ${keys.data.next && html`<a class="button" href=${link("/keys", { cursor: keys.data.next })}>Older</a>`}</footer>`}
    </${Panel}>
    ${asked?.kind === "create" && html`<${CreateKey} users=${users.data ?? []} close=${close} made=${(/** @type {Api.CreatedKey} */ key) => {
      ask({ kind: "made", key });
      keys.reload();
    }} />`}
    ${asked?.kind === "made" && html`<${ShowKey} of=${asked.key} close=${close} />`}
    ${asked?.kind === "revoke" && html`<${RevokeKey} of=${asked.key} close=${close} done=${keys.reload} />`}
    ${asked?.kind === "password" && html`<${OwnPassword} close=${close} />`}
    <${Again} />
  </${Page}>`;
}

/** @param {Api.KeyResource} key @returns {[string, string, string]} */
function stateOf(key) {
  if (key.revoked_at) return ["revoked", "cancelled", "cancelled"];
  if (key.expires_at && Date.parse(key.expires_at) <= now.value) return ["expired", "expired", "expired"];
  return ["works", "ok", "ok"];
}

/** @param {{ of: Api.KeyResource, admin: boolean, owner: string | null, revoke: () => void }} props */
function Row({ of, admin, owner, revoke }) {
  const [word, sign, tone] = stateOf(of);
  return html`<tr class=${word === "works" ? "" : "over"}>
    <td><span class="state"><${Sign} name=${sign} tone=${tone} />${word}</span></td>
    <td class="main"><span class="strong wrap">${of.name}</span></td>
    <td><span class="inline"><span class="id">${of.id}</span><${Copy} text=${of.id} label="the id" /></span></td>
    ${admin && html`<td data-name="whose">${owner ?? html`<span class="dim">a program's</span>`}</td>`}
    <td class="scopes">${of.scopes.map((scope) => html`<span class=${`tag ${scope === "admin" || scope === "operate" ? "strong" : ""}`} key=${scope}>${scope}</span>`)}</td>
    <td class="num" data-name="created"><${Ago} at=${of.created_at} /></td>
    <td class="num" data-name="used">${of.last_used_at ? html`<${Ago} at=${of.last_used_at} />` : html`<span class="dim">never</span>`}</td>
    <td class="num" data-name=${of.revoked_at ? "" : "expires"}>${of.revoked_at ? html`revoked <${Ago} at=${of.revoked_at} />` : of.expires_at ? html`<${Ago} at=${of.expires_at} />` : html`<span class="dim">never</span>`}</td>
    <td class="num act">${word === "works" && may("write") && html`<button type="button" class="danger" aria-label=${`Revoke ${of.name}`} onClick=${revoke}>Revoke</button>`}</td></tr>`;
}
