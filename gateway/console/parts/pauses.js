// Pauses of models and of all work of the tenant: shown, made and ended.
import { useState } from "preact/hooks";
import { html } from "../html.js";
import { post } from "../api.js";
import { WITHOUT_CREDENTIALS } from "../audit.js";
import { relative, sentence } from "../format.js";
import { now } from "../live.js";
import { notify } from "../notices.js";
import { work } from "../pauses.js";
import { Confirm } from "./dialog.js";
import { Sign } from "./sign.js";
import { Ago, Clock } from "./time.js";

/** @type {[string, number][]} seconds; 0: without an end */
const LENGTHS = [["until someone resumes it", 0], ["for 15 minutes", 900], ["for an hour", 3600], ["for 4 hours", 14_400], ["for a day", 86_400]];

const PATHS = {
  pause: { tenant: "/v1/tenant/pause", model: "/v1/models/{model_id}/pause" },
  resume: { tenant: "/v1/tenant/resume", model: "/v1/models/{model_id}/resume" },
};

/** @param {string | null} model null: the tenant @param {"pause" | "resume"} verb @param {object} [body] */
const steer = (model, verb, body) => (model === null ? post(PATHS[verb].tenant, { body }) : post(PATHS[verb].model, { path: { model_id: model }, body }));

/** The pauses in force. @param {{ pauses: Api.PauseResource[] | undefined, done: () => void }} props */
export function Paused({ pauses, done }) {
  if (!pauses?.length) return null;
  return html`<section class="panel" aria-label="Paused"><ul class="findings">${pauses.map((each) => html`<li key=${each.model}><${Sign} name="paused" tone="warn" />
    <p><b>${work(each.model, "is")} paused.</b> ${each.reason && sentence(each.reason)}
      <span class="dim"> Since <${Ago} at=${each.paused_at} />${by(each)}${each.until ? html`, until <${Clock} at=${each.until} /> (${relative(each.until, now.value)})` : ", until someone resumes it"}. Requests are accepted and wait; what runs goes on.</span></p>
    <${Resume} model=${each.model} done=${done} /></li>`)}</ul></section>`;
}

/** The credential that paused it, if there was one. @param {Api.PauseResource} pause */
export const by = ({ paused_by: who }) => who !== WITHOUT_CREDENTIALS && html`, by <code>${who}</code>`;

/** @param {{ model: string | null, done: () => void, quiet?: boolean }} props  null: all work of the tenant */
export function Pause({ model, done, quiet = false }) {
  const [asked, ask] = useState(false);
  return html`<button type="button" class=${quiet ? "quiet" : ""} aria-label=${`Pause ${work(model)}`} onClick=${() => ask(true)}>${model === null ? "Pause all work …" : "Pause …"}</button>
    ${asked && html`<${AskToPause} model=${model} done=${done} close=${() => ask(false)} />`}`;
}

/** @param {{ model: string | null, done: () => void }} props */
export function Resume({ model, done }) {
  const [asked, ask] = useState(false);
  async function act() {
    await steer(model, "resume");
    notify(`${work(model, "is")} resumed.`);
    done();
  }
  return html`<button type="button" aria-label=${`Resume ${work(model)}`} onClick=${() => ask(true)}>Resume</button>
    ${asked && html`<${Confirm} title=${`Resume ${work(model)}`} yes="Resume" act=${act} close=${() => ask(false)}>
      <p>Workers take ${model === null ? "requests" : "its requests"} again, the most urgent first.${model === null ? " A model that is paused by itself stays paused." : ""}</p></${Confirm}>`}`;
}

/** @param {{ model: string | null, done: () => void, close: () => void }} props */
function AskToPause({ model, done, close }) {
  const [reason, setReason] = useState("");
  const [seconds, setSeconds] = useState("3600");
  async function act() {
    const until = Number(seconds) ? new Date(now.peek() + Number(seconds) * 1000).toISOString() : null;
    await steer(model, "pause", { reason: reason.trim(), until });
    notify(`${work(model, "is")} paused.`);
    done();
  }
  return html`<${Confirm} title=${`Pause ${work(model)}`} yes="Pause" act=${act} close=${close}>
    <p>Requests ${model === null ? "of the whole tenant" : "for it"} are accepted and wait; what runs goes on. Those that wait still expire at their deadlines.</p>
    <label>How long<select value=${seconds} onChange=${(/** @type {any} */ event) => setSeconds(event.target.value)}>
      ${LENGTHS.map(([text, value]) => html`<option key=${value} value=${String(value)}>${text}</option>`)}</select></label>
    <label>Why; callers whose requests wait see it, too<input value=${reason} maxlength="500" placeholder="the provider is being moved" onInput=${(/** @type {any} */ event) => setReason(event.target.value)} /></label>
  </${Confirm}>`;
}
