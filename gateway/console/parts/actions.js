// What can be done with the chosen requests, or with all that match the filter.
import { useEffect, useState } from "preact/hooks";
import { html } from "../html.js";
import { asProblem } from "../api.js";
import { labelOf } from "../filters.js";
import { number, plural } from "../format.js";
import { useKeys } from "../keys.js";
import { notify } from "../notices.js";
import { may } from "../session.js";
import { done, selectionOf, skippedIn, tried } from "../steering.js";
import { Confirm } from "./dialog.js";

/** @type {{ verb: import("../steering.js").Verb, name: string, key: string, text: string, past: string, danger?: boolean }[]} */
const VERBS = [
  { verb: "cancel", name: "Cancel", key: "c", text: "Cancel the chosen ones", past: "cancelled", danger: true },
  { verb: "retry", name: "Retry", key: "r", text: "Retry the chosen ones", past: "retried" },
  { verb: "change", name: "Priority", key: "p", text: "Change their priority", past: "changed" },
];

/** @param {{ chosen: string[], filter: Record<string, string>, done: () => void, clear: () => void }} props */
export function Actions({ chosen, filter, done: finished, clear }) {
  const [all, setAll] = useState(false);
  const [asked, ask] = useState(/** @type {typeof VERBS[number] | null} */ (null));
  const filtered = Object.keys(filter).length > 0;
  const selection = all ? selectionOf(filter) : { ids: chosen };
  useKeys([...VERBS.map((each) => ({ key: each.key, text: each.text, run: () => ask(each) })), { key: "Escape", text: "Choose none", run: clear }]);
  return html`<div class="actions" role="toolbar" aria-label="Chosen requests">
    <span class="strong" role="status">${all ? "All" : `${number(chosen.length)} chosen`}</span>
    ${filtered && html`<label class="check"><input type="checkbox" checked=${all} onChange=${() => setAll(!all)} />all that match the filters</label>`}
    <span class="buttons">${VERBS.map((each) => html`<button key=${each.verb} type="button" class=${each.danger ? "danger" : ""} onClick=${() => ask(each)}>${each.name}</button>`)}
      <button type="button" class="quiet" onClick=${clear}>Clear</button></span>
  </div>
  ${asked && html`<${Ask} of=${asked} selection=${selection} close=${() => ask(null)} finished=${finished} />`}`;
}

/** Which requests are selected, and whose. @param {{ of: import("../steering.js").Selection, scope: string }} props */
function Selected({ of, scope }) {
  if ("ids" in of) return html`<p class="dim">Of the ${number(of.ids.length)} that you chose.</p>`;
  const filters = Object.entries(of.filter).map(([name, value]) => html`<span class="tag" key=${name}><span class="dim">${labelOf(name).toLowerCase()}</span> ${value}</span> `);
  return html`<p class="wrap">That is every request with ${filters} ${scope === "tenant" ? html`<b>of every owner</b> of the tenant.` : "of your own."}</p>`;
}

/**
 * Says how many it would be before anything happens.
 * @param {{ of: typeof VERBS[number], selection: import("../steering.js").Selection, close: () => void, finished: () => void }} props
 */
function Ask({ of, selection, close, finished }) {
  const [priority, setPriority] = useState("5");
  const [dry, set] = useState(/** @type {{ outcome?: import("../steering.js").Outcome, problem?: any }} */ ({}));
  const [sum, setSum] = useState(/** @type {import("../steering.js").Outcome | null} */ (null));
  const more = of.verb === "change" ? { change: { priority: Number(priority) } } : {};
  useEffect(() => {
    let over = false;
    set({});
    tried(of.verb, selection, more).then((outcome) => over || set({ outcome }), (error) => over || set({ problem: asProblem(error) }));
    return () => {
      over = true;
    };
  }, [of.verb, priority]);
  async function act() {
    const outcome = await done(of.verb, selection, more, setSum);
    const skipped = skippedIn(outcome);
    notify(`${plural(outcome.done, "request")} ${of.verb === "cancel" ? "will be cancelled" : of.past}${skipped ? `; left alone: ${skipped}` : ""}.`);
    finished();
  }
  const count = { count: dry.outcome?.done ?? 0, more: !!dry.outcome?.more };
  const title = of.verb === "change" ? "Change the priority" : `${of.name} requests`;
  const yes = of.verb === "change" ? `Set priority ${priority}` : `${of.name} ${plural(count, "request")}`;
  return html`<${Confirm} title=${title} yes=${yes} danger=${of.danger} act=${act} close=${close} ready=${count.count > 0}>
    ${of.verb === "change" && html`<label>Priority, 9 first <select value=${priority} onChange=${(/** @type {any} */ event) => setPriority(event.target.value)}>
      ${[9, 8, 7, 6, 5, 4, 3, 2, 1, 0].map((each) => html`<option key=${each} value=${each}>${each}</option>`)}</select></label>`}
    <div class="dry" role="status">
      ${dry.problem && html`<p class="is-failed">${dry.problem.title}. ${dry.problem.detail}</p>`}
      ${!dry.problem && !dry.outcome && html`<p class="dim">Counting …</p>`}
      ${dry.outcome && html`<p><b>${plural(count, "request")}</b> would be ${of.past}.</p>
        <${Selected} of=${selection} scope=${dry.outcome.scope ?? (may("operate") ? "tenant" : "own")} />
        ${dry.outcome.skipped.size > 0 && html`<p class="dim">Left alone: ${skippedIn(dry.outcome)}.</p>`}
        ${dry.outcome.more && html`<p class="dim">Only the first 1,000 were looked at. It goes on to the last one that matches.</p>`}`}
      ${sum && html`<p>${number(sum.done)} so far …</p>`}
    </div>
    ${of.verb === "retry" && html`<p class="dim">A retry is a new request at the end of its conversation. The old one stays as it is.</p>`}
  </${Confirm}>`;
}
