// Asks how long, and why, before a model or all models are paused.
import { useState } from "preact/hooks";
import { html } from "../html.js";
import { post } from "../api.js";
import { notify } from "../notices.js";
import { Confirm } from "./dialog.js";

/** @type {[string, number][]} seconds; 0: without an end */
const LENGTHS = [["until someone resumes it", 0], ["for 15 minutes", 900], ["for an hour", 3600], ["for 4 hours", 14_400], ["for a day", 86_400]];

/** @param {{ model: string | null, close: () => void, done: () => void }} props */
export function Pause({ model, close, done }) {
  const [reason, setReason] = useState("");
  const [seconds, setSeconds] = useState("3600");
  async function act() {
    const until = Number(seconds) ? new Date(Date.now() + Number(seconds) * 1000).toISOString() : null;
    const body = { reason: reason.trim(), until };
    await (model === null ? post("/v1/tenant/pause", { body }) : post("/v1/models/{model_id}/pause", { path: { model_id: model }, body }));
    notify(model === null ? "All models are paused." : `Model ${model} is paused.`);
    done();
  }
  return html`<${Confirm} title=${model === null ? "Pause all models" : `Pause ${model}`} yes="Pause" act=${act} close=${close}>
    <p class="dim">Requests for ${model === null ? "any model" : "it"} are accepted, and wait. What runs goes on. A deadline still ends what waits.</p>
    <label>How long<select value=${seconds} onChange=${(/** @type {any} */ event) => setSeconds(event.target.value)}>
      ${LENGTHS.map(([text, value]) => html`<option key=${value} value=${String(value)}>${text}</option>`)}</select></label>
    <label>Why; callers whose requests wait see it, too<input value=${reason} maxlength="500" placeholder="the provider is being moved" onInput=${(/** @type {any} */ event) => setReason(event.target.value)} /></label>
  </${Confirm}>`;
}
