// Erasures: everything that an owner has is deleted, by workers, in a few minutes.
import { useEffect, useState } from "preact/hooks";
import { html } from "../html.js";
import { asProblem, get, post, useLoaded } from "../api.js";
import { number } from "../format.js";
import { notify } from "../notices.js";
import { Copy } from "./copy.js";
import { Confirm } from "./dialog.js";
import { Empty, Loaded, Panel } from "./panel.js";
import { Sign } from "./sign.js";
import { Ago } from "./time.js";

const LIMIT = 20;
const LOOK_MS = 2000;

/** The newest erasures, and the way to a new one. */
export function Erasures() {
  const found = useLoaded((abort) => get("/v1/erasures", { query: { limit: LIMIT }, abort }), []);
  const [asked, ask] = useState(false);
  /** @type {Api.ErasureResource[]} */
  const rows = found.data?.data ?? [];
  const running = rows.some((each) => each.status === "running");
  useEffect(() => {
    const timer = running ? setInterval(found.reload, LOOK_MS) : undefined;
    return () => clearInterval(timer);
  }, [running]);
  return html`<${Panel} title="Erasures" note="all that an owner has is deleted" flush
    tools=${html`<button type="button" class="danger" onClick=${() => ask(true)}>Erase data …</button>`}>
    <${Loaded} of=${found}>${() => (rows.length ? html`<table class="cards erasures"><thead><tr><th>State</th><th>Erasure</th><th>Deleted so far</th><th class="num">Asked for</th><th class="num">Done</th></tr></thead>
      <tbody>${rows.map((each) => html`<${Row} key=${each.id} of=${each} />`)}</tbody></table>
      ${found.data?.next && html`<footer class="pager"><span class="dim">the newest ${LIMIT}</span></footer>`}`
      : html`<${Empty} title="Nothing was erased yet."><p class="dim">An erasure does not say whose data were deleted.</p></${Empty}>`)}</${Loaded}>
    ${asked && html`<${Erase} close=${() => ask(false)} done=${found.reload} />`}
  </${Panel}>`;
}

/** @param {Record<string, number>} counts */
const said = (counts) => Object.entries(counts).map(([kind, count]) => `${number(count)} ${kind.replace("_", " ")}`).join(", ") || "nothing";

/** @param {{ of: Api.ErasureResource }} props */
function Row({ of }) {
  const sign = of.status === "done" ? "ok" : "in_progress";
  return html`<tr>
    <td class="main"><span class="state"><${Sign} name=${sign} tone=${sign} />${of.status}</span></td>
    <td><span class="inline"><span class="id" title=${of.id}>${of.id?.slice(0, 8)}…</span><${Copy} text=${of.id ?? ""} label="the id" /></span></td>
    <td data-name="deleted">${said(of.counts)}</td>
    <td class="num" data-name="asked for"><${Ago} at=${of.requested_at} /></td>
    <td class="num" data-name="done">${of.finished_at ? html`<${Ago} at=${of.finished_at} />` : html`<span class="dim">not yet</span>`}</td></tr>`;
}

/** Only what was counted can be erased. @param {{ close: () => void, done: () => void }} props */
function Erase({ close, done }) {
  const [owner, setOwner] = useState("");
  const [told, set] = useState(/** @type {{ of?: string, counts?: Record<string, number>, problem?: import("../api.js").Problem }} */ ({}));
  // An answer may come when another owner is typed already.
  const counted = told.of === owner ? told : {};
  const look = () => post("/v1/erasures", { body: { owner, dry_run: true } }).then(({ counts }) => set({ of: owner, counts }), (error) => set({ of: owner, problem: asProblem(error) }));
  async function act() {
    await post("/v1/erasures", { body: { owner } });
    notify("The erasure is accepted: workers delete, which takes two minutes or longer.");
    done();
  }
  return html`<${Confirm} title="Erase all data of an owner" yes="Erase it" danger act=${act} close=${close} ready=${!!counted.counts}>
    <label>Id of a user, key:NAME of a program, or the name of an X-User-ID<input value=${owner} maxlength="200" autocomplete="off" spellcheck=${false} required
      onInput=${(/** @type {any} */ event) => setOwner(event.target.value)} /></label>
    <p><button type="button" disabled=${owner === ""} onClick=${look}>Count what there is</button></p>
    ${counted.problem && html`<p class="is-failed" role="alert">${counted.problem.title}. ${counted.problem.detail}</p>`}
    ${counted.counts && html`<p role="status">${said(counted.counts)}. <b>It cannot be undone.</b></p>`}
    <p class="dim">Open requests are cancelled, keys are revoked, and a user's account is deleted.</p></${Confirm}>`;
}
