// Signing in: with a name and a password, or with an API key on a gateway without users.
import { useState } from "preact/hooks";
import { html } from "../html.js";
import { asProblem } from "../api.js";
import { session, signIn } from "../session.js";

export function SignIn() {
  const keysOnly = session.value?.mode === "keys";
  const [chosen, setBy] = useState(/** @type {"password" | "key"} */ ("password"));
  const by = keysOnly ? "key" : chosen;
  const [state, set] = useState(/** @type {{ busy: boolean, problem?: any }} */ ({ busy: false }));
  async function submit(/** @type {SubmitEvent} */ event) {
    event.preventDefault();
    const form = new FormData(/** @type {HTMLFormElement} */ (event.currentTarget));
    const text = (/** @type {string} */ name) => String(form.get(name) ?? "");
    set({ busy: true });
    try {
      await signIn(by === "key" ? { api_key: text("key") } : { username: text("username"), password: text("password") });
    } catch (error) {
      set({ busy: false, problem: asProblem(error) });
    }
  }
  return html`<main class="alone"><form class="signin" onSubmit=${submit}>
    <img src=${new URL("../icon.svg", import.meta.url).href} alt="" width="40" height="40" />
    <h1>LLM Orchestra</h1>
    ${!keysOnly && html`<div class="segments" role="group" aria-label="Sign in with">
      <button type="button" aria-pressed=${by === "password"} onClick=${() => setBy("password")}>Password</button>
      <button type="button" aria-pressed=${by === "key"} onClick=${() => setBy("key")}>API key</button>
    </div>`}
    ${by === "password"
      ? html`<label>Name<input name="username" autocomplete="username" required autofocus /></label>
          <label>Password<input name="password" type="password" autocomplete="current-password" required /></label>`
      : html`<label>API key<input name="key" type="password" autocomplete="off" placeholder="orc_…" required autofocus /></label>`}
    ${state.problem && html`<p class="is-failed" role="alert">${said(state.problem)}</p>`}
    <button type="submit" class="primary" disabled=${state.busy}>Sign in</button>
  </form></main>`;
}

/** @param {import("../api.js").Problem} problem */
const said = (problem) => (problem.status === 401 ? "That does not match. Check both, then try again." : `${problem.title}. ${problem.detail}`);
