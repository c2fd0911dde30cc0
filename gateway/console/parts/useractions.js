// What an admin does with users. Each dialog says what it ends.
import { useState } from "preact/hooks";
import { html } from "../html.js";
import { recently } from "../again.js";
import { call, post } from "../api.js";
import { notify } from "../notices.js";
import { Confirm } from "./dialog.js";

const MIN_PASSWORD = 8;
/** @typedef {{ user: Api.UserResource, close: () => void, done: () => void }} Props */

const ROLES = /** @type {const} */ ([["user", "sees and sends what is theirs"], ["admin", "may do everything"]]);

/** @param {{ value: string, set: (role: string) => void }} props */
const Roles = ({ value, set }) => html`<fieldset class="choices"><legend>Role</legend>${ROLES.map(([role, text]) => html`<label key=${role} class="check">
  <input type="radio" name="role" value=${role} checked=${value === role} onChange=${() => set(role)} /><span><b>${role}</b> <span class="dim">${text}</span></span></label>`)}</fieldset>`;

/** @param {{ value: string, set: (text: string) => void, label?: string }} props */
const Password = ({ value, set, label = "Password" }) => html`<label>${label}, ${MIN_PASSWORD} characters or more<input type="password" autocomplete="new-password" required value=${value}
  onInput=${(/** @type {any} */ event) => set(event.target.value)} /></label>`;

/** @param {{ keep: boolean, set: (keep: boolean) => void }} props */
const KeepKeys = ({ keep, set }) => html`<label class="check"><input type="checkbox" checked=${keep} onChange=${() => set(!keep)} />Keep the user's API keys</label>`;

/** @param {{ close: () => void, done: () => void }} props */
export function CreateUser({ close, done }) {
  const [user, set] = useState({ username: "", password: "", role: "user" });
  async function act() {
    await recently(() => post("/v1/users", { body: user }));
    notify(`User ${user.username} can sign in now.`);
    done();
  }
  return html`<${Confirm} title="New user" yes="Create" act=${act} close=${close} ready=${user.username.trim() !== "" && user.password.length >= MIN_PASSWORD}>
    <label>Name<input value=${user.username} maxlength="200" autocomplete="off" spellcheck=${false} required onInput=${(/** @type {any} */ event) => set({ ...user, username: event.target.value })} /></label>
    <${Password} value=${user.password} set=${(/** @type {string} */ password) => set({ ...user, password })} />
    <${Roles} value=${user.role} set=${(/** @type {string} */ role) => set({ ...user, role })} /></${Confirm}>`;
}

/** @param {Props} props */
export function SetRole({ user, close, done }) {
  const [role, set] = useState(/** @type {string} */ (user.role));
  async function act() {
    await recently(() => call("PUT", "/v1/users/{user_id}", { path: { user_id: user.id }, body: { role } }));
    notify(`${user.username} has the role ${role} now.`);
    done();
  }
  return html`<${Confirm} title=${`Role of ${user.username}`} yes="Change it" act=${act} close=${close} ready=${role !== user.role}>
    <${Roles} value=${role} set=${set} /><p class="dim">It counts for their sessions and their keys.</p></${Confirm}>`;
}

/** @param {Props} props */
export function SetPassword({ user, close, done }) {
  const [password, set] = useState("");
  const [keep, setKeep] = useState(false);
  async function act() {
    await recently(() => call("PUT", "/v1/users/{user_id}", { path: { user_id: user.id }, body: { password, keep_keys: keep } }));
    notify(`${user.username} has a new password.`);
    done();
  }
  return html`<${Confirm} title=${`New password of ${user.username}`} yes="Set it" act=${act} close=${close} ready=${password.length >= MIN_PASSWORD}>
    <${Password} value=${password} set=${set} /><${KeepKeys} keep=${keep} set=${setKeep} />
    <p class="dim">It ends all their sessions${keep ? "." : ", and revokes their API keys."}</p></${Confirm}>`;
}

/** @param {Props} props */
export function DeleteUser({ user, close, done }) {
  async function act() {
    await call("DELETE", "/v1/users/{user_id}", { path: { user_id: user.id } });
    notify(`User ${user.username} was deleted.`);
    done();
  }
  return html`<${Confirm} title=${`Delete ${user.username}`} yes="Delete" danger act=${act} close=${close}>
    <p>They are signed out, and their API keys stop working. Their requests and conversations stay.</p></${Confirm}>`;
}

/** The caller's own password. @param {{ close: () => void }} props */
export function OwnPassword({ close }) {
  const [old, setOld] = useState("");
  const [password, set] = useState("");
  const [keep, setKeep] = useState(false);
  async function act() {
    await call("PUT", "/v1/users/me/password", { body: { old_password: old, password, keep_keys: keep } });
    notify("Your password is changed. Sign in with it.");
    location.reload();
  }
  return html`<${Confirm} title="Change your password" yes="Change it" act=${act} close=${close} ready=${old !== "" && password.length >= MIN_PASSWORD}>
    <label>Your present password<input type="password" autocomplete="current-password" value=${old} required onInput=${(/** @type {any} */ event) => setOld(event.target.value)} /></label>
    <${Password} label="New password" value=${password} set=${set} /><${KeepKeys} keep=${keep} set=${setKeep} />
    <p class="dim">It ends all your sessions, this one too${keep ? "." : ", and revokes your API keys."}</p></${Confirm}>`;
}
