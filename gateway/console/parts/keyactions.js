// Makes an API key, shows it once, revokes it.
import { useRef, useState } from "preact/hooks";
import { html } from "../html.js";
import { recently } from "../again.js";
import { call, post } from "../api.js";
import { notify } from "../notices.js";
import { may } from "../session.js";
import { Copy } from "./copy.js";
import { Confirm, Dialog } from "./dialog.js";

const DAY = 86_400_000;
/** @type {[string, number][]} days; 0: never */
const LIVES = [["in 30 days", 30], ["in 90 days", 90], ["in a year", 365], ["never, until it is revoked", 0]];
/** @type {[string, string][]} */
const SCOPES = [
  ["read", "read requests, conversations and files"], ["write", "send, cancel, delete"], ["priority", "ask for any priority"],
  ["operate", "see the whole tenant, pause, replay"], ["admin", "everything, for everyone's data"],
];

/** @param {{ users: Api.UserResource[], close: () => void, made: (key: Api.CreatedKey) => void }} props */
export function CreateKey({ users, close, made }) {
  const admin = may("admin");
  const [name, setName] = useState("");
  const [scopes, setScopes] = useState(["read", "write"]);
  const [days, setDays] = useState("90");
  const [owner, setOwner] = useState("");
  const toggle = (/** @type {string} */ scope) => setScopes(scopes.includes(scope) ? scopes.filter((each) => each !== scope) : [...scopes, scope]);
  async function act() {
    const expires = Number(days) ? new Date(Date.now() + Number(days) * DAY).toISOString() : null;
    const body = { name: name.trim(), scopes, expires_at: expires, ...(owner && { user_id: owner }) };
    made(await recently(() => post("/v1/keys", { body })));
  }
  const offered = SCOPES.filter(([scope]) => admin || may(scope));
  return html`<${Made} title="New API key" yes="Create" act=${act} close=${close} ready=${name.trim() !== "" && scopes.length > 0}>
    <label>What it is for<input value=${name} maxlength="100" placeholder="nightly report" autocomplete="off" required onInput=${(/** @type {any} */ event) => setName(event.target.value)} /></label>
    <fieldset class="choices"><legend>What it allows</legend>${offered.map(([scope, text]) => html`<label key=${scope} class="check">
      <input type="checkbox" checked=${scopes.includes(scope)} onChange=${() => toggle(scope)} /><span><b>${scope}</b> <span class="dim">${text}</span></span></label>`)}</fieldset>
    <label>Expires<select value=${days} onChange=${(/** @type {any} */ event) => setDays(event.target.value)}>${LIVES.map(([text, value]) => html`<option key=${value} value=${String(value)}>${text}</option>`)}</select></label>
    ${admin && html`<label>Whose<select value=${owner} onChange=${(/** @type {any} */ event) => setOwner(event.target.value)}><option value="">a program's own</option>
      ${users.map((user) => html`<option key=${user.id} value=${user.id}>${user.username}</option>`)}</select></label>`}
  </${Made}>`;
}

/** `Confirm` closes after it acted; here another dialog is in its place by then. @param {any} props */
function Made({ act, close, ...props }) {
  const done = useRef(false);
  const acted = async () => {
    await act();
    done.current = true;
  };
  return html`<${Confirm} ...${props} act=${acted} close=${() => done.current || close()} />`;
}

/** @param {{ of: Api.CreatedKey, close: () => void }} props */
export function ShowKey({ of, close }) {
  return html`<${Dialog} title=${`The key for ${of.name}`} close=${close}>
    <p><b>It is shown once, now.</b> Store it where its program finds it. Only its hash is kept here.</p>
    <div class="secret"><code aria-label="The key">${of.key}</code><${Copy} text=${of.key} label="the key" /></div>
    <pre class="value" tabindex="0">curl -s ${location.origin}/v1/requests -H 'Authorization: Bearer ${of.key}'</pre>
    <div class="buttons"><button type="button" class="primary" onClick=${close}>I have stored it</button></div></${Dialog}>`;
}

/** @param {{ of: Api.KeyResource, close: () => void, done: () => void }} props */
export function RevokeKey({ of, close, done }) {
  async function act() {
    await call("DELETE", "/v1/keys/{key_id}", { path: { key_id: of.id } });
    notify(`Key ${of.id} is revoked.`);
    done();
  }
  return html`<${Confirm} title=${`Revoke the key for ${of.name}`} yes="Revoke it" danger act=${act} close=${close}>
    <p>Its program gets 401 within a minute, and sessions that began with it end. It cannot be undone; the key stays in this list.</p></${Confirm}>`;
}
