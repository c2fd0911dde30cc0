// The users: who may sign in, and as what; and the erasures of all data of an owner.
import { useState } from "preact/hooks";
import { html } from "../html.js";
import { get, useLoaded } from "../api.js";
import { number } from "../format.js";
import { link, query } from "../router.js";
import { session } from "../session.js";
import { Again } from "../parts/again.js";
import { Copy } from "../parts/copy.js";
import { Erasures } from "../parts/erasures.js";
import { Page } from "../parts/page.js";
import { Empty, Failure, Panel } from "../parts/panel.js";
import { CreateUser, DeleteUser, SetPassword, SetRole } from "../parts/useractions.js";
import { Ago } from "../parts/time.js";

const LIMIT = 100;

/** @typedef {{ kind: "create" } | { kind: "role" | "password" | "delete", user: Api.UserResource }} Asked */

export default function People() {
  const users = useLoaded((abort) => get("/v1/users", { query: { limit: 1000 }, abort }), []);
  const [asked, ask] = useState(/** @type {Asked | null} */ (null));
  const shown = Number(query.value.get("shown")) || LIMIT;
  /** @type {Api.UserResource[]} */
  const all = users.data ?? [];
  const rows = all.slice(0, shown);
  const props = { close: () => ask(null), done: users.reload };
  return html`<${Page} title="People" tools=${html`<button type="button" class="primary" onClick=${() => ask({ kind: "create" })}>New user</button>`}>
    <${Panel} title="Users" note="who may sign in with a password" flush>
      ${users.problem && !users.data && html`<${Failure} problem=${users.problem} again=${users.reload} />`}
      ${!users.data && !users.problem && html`<div class="loading" aria-busy="true"></div>`}
      ${users.data && !all.length && html`<${Empty} title="There are no users."><p class="dim">${session.value?.mode === "open"
        ? "This gateway is in open mode: everyone who reaches it may do everything. Make an admin before you close it."
        : "Everyone signs in with an API key so far. Make an admin to sign in with a password."}</p></${Empty}>`}
      ${rows.length > 0 && html`<table class="cards people"><thead><tr><th>Name</th><th>Role</th><th>Id</th><th class="num">Created</th><th></th></tr></thead>
        <tbody>${rows.map((user) => html`<${Row} key=${user.id} user=${user} ask=${ask} />`)}</tbody></table>
        <footer class="pager"><span class="dim">${rows.length < all.length ? `the newest ${number(rows.length)}` : all.length < 1000 ? `these are all ${number(all.length)}` : "the newest 1,000"}</span>
          ${rows.length < all.length && html`<a class="button" href=${link("/people", { shown: String(shown + LIMIT) })}>More</a>`}</footer>`}
    </${Panel}>
    <${Erasures} />
    ${asked?.kind === "create" && html`<${CreateUser} ...${props} />`}
    ${asked?.kind === "role" && html`<${SetRole} user=${asked.user} ...${props} />`}
    ${asked?.kind === "password" && html`<${SetPassword} user=${asked.user} ...${props} />`}
    ${asked?.kind === "delete" && html`<${DeleteUser} user=${asked.user} ...${props} />`}
    <${Again} />
  </${Page}>`;
}

/** @param {{ user: Api.UserResource, ask: (asked: Asked) => void }} props */
function Row({ user, ask }) {
  const own = session.value?.caller?.user_id === user.id;
  return html`<tr>
    <td class="main"><span class="strong wrap">${user.username}</span>${own && html` <span class="tag">you</span>`}</td>
    <td data-name="role">${user.role}</td>
    <td><span class="inline"><span class="id" title=${user.id}>${user.id.slice(0, 8)}…</span><${Copy} text=${user.id} label="the id" /></span></td>
    <td class="num"><${Ago} at=${user.created_at} /></td>
    <td class="num act"><span class="inline">
      <button type="button" aria-label=${`Role of ${user.username}`} onClick=${() => ask({ kind: "role", user })}>Role …</button>
      <button type="button" aria-label=${`Password of ${user.username}`} onClick=${() => ask({ kind: "password", user })}>Password …</button>
      <button type="button" class="danger" disabled=${own} title=${own ? "You cannot delete yourself" : undefined} aria-label=${`Delete ${user.username}`} onClick=${() => ask({ kind: "delete", user })}>Delete</button></span></td></tr>`;
}
