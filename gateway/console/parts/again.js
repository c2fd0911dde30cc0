// Asks for the password again, before something that creates access. The page with such a call shows it.
import { useState } from "preact/hooks";
import { html } from "../html.js";
import { Problem } from "../api.js";
import { waiting } from "../again.js";
import { session, signIn } from "../session.js";
import { Confirm } from "./dialog.js";

export const Again = () => waiting.value && html`<${Ask} of=${waiting.value} />`;

/** @param {{ of: NonNullable<typeof waiting.value> }} props */
function Ask({ of }) {
  const [secret, set] = useState("");
  const { username, key_id: key } = session.value?.caller ?? {};
  const byPassword = !!username && !key;
  async function act() {
    try {
      await signIn(byPassword ? { username: username ?? "", password: secret } : { api_key: secret });
    } catch (error) {
      if (error instanceof Problem && error.status === 401) throw new Problem(401, error.code, "That does not match", "Check it, then try again.");
      throw error;
    }
    waiting.value = null;
    of.done();
  }
  function close() {
    if (waiting.peek() !== of) return;
    waiting.value = null;
    of.back(new Problem(403, "sign_in_again", "Nothing was changed", "It needs your password."));
  }
  return html`<${Confirm} title=${byPassword ? "Your password, please" : "Your API key, please"} yes="Go on" act=${act} close=${close} ready=${secret !== ""}>
    <p class="dim">You signed in a while ago, and this gives someone access.</p>
    ${byPassword && html`<input class="hidden" name="username" autocomplete="username" value=${username} readonly tabindex="-1" aria-hidden="true" />`}
    <label>${byPassword ? `Password of ${username}` : "API key"}<input type="password" autocomplete=${byPassword ? "current-password" : "off"} value=${secret} autofocus
      onInput=${(/** @type {any} */ event) => set(event.target.value)} /></label></${Confirm}>`;
}
