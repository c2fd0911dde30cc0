// Sends all dead letters that match the filters again, after a dry run has counted them.
import { useEffect, useState } from "preact/hooks";
import { html } from "../html.js";
import { asProblem, post } from "../api.js";
import { number, plural } from "../format.js";
import { notify } from "../notices.js";
import { Confirm } from "./dialog.js";

/** @typedef {{ replayed: number, skipped: number, more: boolean }} Sum */

/** @param {{ filter: Record<string, string>, done: () => void }} props */
export function Resend({ filter, done }) {
  const [asked, ask] = useState(false);
  return html`<button type="button" onClick=${() => ask(true)}>Send again all that match</button>
    ${asked && html`<${Ask} filter=${filter} done=${done} close=${() => ask(false)} />`}`;
}

/** @param {{ filter: Record<string, string>, done: () => void, close: () => void }} props */
function Ask({ filter, done, close }) {
  // What is set aside after the count was made is not sent with it.
  const [body] = useState(() => {
    const { replayed: _, ...fields } = filter;
    return { ...fields, created_before: fields["created_before"] ?? new Date().toISOString() };
  });
  const [dry, set] = useState(/** @type {{ sum?: Sum, problem?: any }} */ ({}));
  const [soFar, setSoFar] = useState(0);
  useEffect(() => {
    once({ ...body, dry_run: true }).then((sum) => set({ sum }), (error) => set({ problem: asProblem(error) }));
  }, []);
  async function act() {
    const sum = { replayed: 0, skipped: 0 };
    /** @type {string | null} */
    let cursor = null;
    do {
      const part = await once(cursor ? { ...body, cursor } : body);
      sum.replayed += part.replayed;
      sum.skipped += part.skipped;
      setSoFar(sum.replayed);
      cursor = part.next;
    } while (cursor);
    notify(`${plural(sum.replayed, "dead letter was", "dead letters were")} sent again${sum.skipped ? `; ${number(sum.skipped)} left alone` : ""}.`);
    done();
  }
  const count = { count: dry.sum?.replayed ?? 0, more: !!dry.sum?.more };
  return html`<${Confirm} title="Send dead letters again" yes=${`Send ${plural(count, "dead letter")} again`} act=${act} close=${close} ready=${count.count > 0}>
    <div class="dry" role="status">
      ${dry.problem && html`<p class="is-failed">${dry.problem.title}. ${dry.problem.detail}</p>`}
      ${!dry.problem && !dry.sum && html`<p class="dim">Counting …</p>`}
      ${dry.sum && html`<p><b>${plural(count, "dead letter")}</b> would be sent again, the oldest first.</p>
        ${dry.sum.skipped > 0 && html`<p class="dim">Left alone: ${number(dry.sum.skipped)} that would be refused again. Edit each of them first.</p>`}
        ${dry.sum.more && html`<p class="dim">The first 500 were counted; it goes on to the last one that matches.</p>`}`}
      ${soFar > 0 && html`<p>${number(soFar)} so far …</p>`}
    </div>
    <p class="dim">Those that were sent again before are not sent another time.</p></${Confirm}>`;
}

/** @param {object} body @returns {Promise<Sum & { next: string | null }>} */
async function once(body) {
  const answer = await post("/v1/dead-letters/replay", { body });
  return { ...answer, more: answer.next !== null };
}
