// Pauses of models and of the tenant: shown and ended, and made. Gateways without the calls show none of it.
import { useState } from "preact/hooks";
import { html } from "../html.js";
import { post } from "../api.js";
import { relative } from "../format.js";
import { now } from "../live.js";
import { notify } from "../notices.js";
import { may } from "../session.js";
import { Confirm } from "./dialog.js";
import { Sign } from "./sign.js";
import { Ago, Clock } from "./time.js";

/** @typedef {Api.PauseResource} PauseOfModel */

const PATHS = {
  pause: { tenant: "/v1/tenant/pause", model: "/v1/models/{model_id}/pause" },
  resume: { tenant: "/v1/tenant/resume", model: "/v1/models/{model_id}/resume" },
};

/** The pauses in force; undefined where the gateway or the caller cannot pause. @param {Api.QueueState | undefined} queue @returns {PauseOfModel[] | undefined} */
export const pausesOf = (queue) => (may("operate") ? queue?.pauses : undefined);

/** @param {string | null} model null: the tenant @param {"pause" | "resume"} verb @param {object} [body] */
const steer = (model, verb, body) => (model === null ? post(PATHS[verb].tenant, { body }) : post(PATHS[verb].model, { path: { model_id: model }, body }));

/** @param {{ pauses: PauseOfModel[] | undefined, done: () => void }} props */
export function Paused({ pauses, done }) {
  const [asked, ask] = useState(/** @type {PauseOfModel | null} */ (null));
  if (!pauses?.length) return null;
  const what = (/** @type {PauseOfModel} */ each) => (each.model === null ? "the tenant" : `model ${each.model}`);
  return html`<section class="panel" aria-label="Paused"><ul class="findings">${pauses.map((each) => html`<li key=${each.model}><${Sign} name="paused" tone="warn" />
      <p><b>${each.model === null ? "All work of the tenant is paused." : `Model ${each.model} is paused.`}</b> ${each.reason}
        <span class="dim"> Since <${Ago} at=${each.paused_at} />, by <code>${each.paused_by}</code>${each.until ? html`, until <${Clock} at=${each.until} /> (${relative(each.until, now.value)})` : ", until it is resumed"}. Requests wait; what runs goes on.</span></p>
      <button type="button" onClick=${() => ask(each)}>Resume</button></li>`)}</ul></section>
    ${asked && html`<${Confirm} title=${`Resume ${what(asked)}`} yes="Resume" close=${() => ask(null)} act=${async () => {
      await steer(asked.model, "resume");
      notify(`Resumed ${what(asked)}.`);
      done();
    }}><p>Workers take its requests again, the most urgent first.</p></${Confirm}>`}`;
}

/** A button that pauses a model, or with null the tenant. @param {{ model: string | null, done: () => void }} props */
export function Pause({ model, done }) {
  const [asked, ask] = useState(false);
  return html`<button type="button" class=${model === null ? "" : "quiet"} onClick=${() => ask(true)}>${model === null ? "Pause all work" : "Pause"}</button>
    ${asked && html`<${Ask} model=${model} done=${done} close=${() => ask(false)} />`}`;
}

/** @param {{ model: string | null, done: () => void, close: () => void }} props */
function Ask({ model, done, close }) {
  const [reason, setReason] = useState("");
  const [until, setUntil] = useState("");
  const what = model === null ? "all work of the tenant" : `model ${model}`;
  async function act() {
    await steer(model, "pause", { reason, until: until ? new Date(until).toISOString() : null });
    notify(`Paused ${what}.`);
    done();
  }
  return html`<${Confirm} title=${`Pause ${what}`} yes="Pause" danger act=${act} close=${close}>
    <p>Requests are accepted and wait; what runs goes on. Those that wait still expire at their deadlines.</p>
    <label>Why; callers whose requests wait see it, too<input value=${reason} maxlength="500" onInput=${(/** @type {any} */ event) => setReason(event.target.value)} /></label>
    <label>Until; empty: until it is resumed<input type="datetime-local" value=${until} onInput=${(/** @type {any} */ event) => setUntil(event.target.value)} /></label></${Confirm}>`;
}
