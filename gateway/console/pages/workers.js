// The workers: what each said of itself when it last renewed its lease.
import { useState } from "preact/hooks";
import { html } from "../html.js";
import { get, post, useLoaded } from "../api.js";
import { number, plural, relative, short } from "../format.js";
import { now, useEvery } from "../live.js";
import { drains } from "../models.js";
import { notify } from "../notices.js";
import { link } from "../router.js";
import { may } from "../session.js";
import { Copy } from "../parts/copy.js";
import { Confirm } from "../parts/dialog.js";
import { Page } from "../parts/page.js";
import { Empty, Loaded, Panel } from "../parts/panel.js";
import { Sign } from "../parts/sign.js";
import { StartWorker } from "../parts/startworker.js";
import { Ago } from "../parts/time.js";

/** A gateway of an older release cannot drain workers, and has no `drain_requested_at`. @typedef {Api.WorkerResource} Worker */

export default function Workers() {
  const workers = useLoaded((abort) => get("/v1/workers", { abort }), []);
  useEvery(2, workers.reload);
  return html`<${Page} title="Workers" note=${workers.data && summary(workers.data)}>
    <${Loaded} of=${workers}>${(/** @type {Api.WorkerList} */ list) => html`
      ${!list.data.some((each) => each.alive) && html`<${Panel} title="No worker"><${Empty} title="No worker is alive: requests are accepted and wait." sign="bad"><p class="dim">Start one. <${StartWorker} /></p></${Empty}></${Panel}>`}
      ${list.data.length > 0 && html`<div class="stack">${list.data.map((each) => html`<${One} key=${each.id} worker=${each} done=${workers.reload} />`)}</div>`}
      ${list.more && html`<p class="dim">The 500 that started last are shown; there are more.</p>`}`}</${Loaded}>
  </${Page}>`;
}

/** @param {Api.WorkerList} list */
function summary({ data }) {
  const alive = data.filter((each) => each.alive);
  const [busy, slots] = [sum(alive.map((each) => each.in_flight)), sum(alive.map((each) => each.capacity))];
  const versions = [...new Set(alive.map((each) => each.version ?? "of another release"))];
  const draining = alive.filter(drains).length;
  return `${number(alive.length)} alive, ${draining ? `${number(draining)} of them draining, ` : ""}${number(busy)} of ${plural(slots, "slot")} taken${versions.length > 1 ? `, ${number(versions.length)} releases: ${versions.join(", ")}` : ""}`;
}

/** @param {(number | null)[]} numbers */
const sum = (numbers) => numbers.reduce((/** @type {number} */ all, each) => all + (each ?? 0), 0);

/** @param {{ worker: Worker, done: () => void }} props */
function One({ worker, done }) {
  const lease = worker.alive ? `lease ends ${relative(worker.lease_until, now.value)}` : `lease lost ${relative(worker.lease_until, now.value)}`;
  return html`<section class="panel worker" aria-label=${`Worker ${worker.id}`}>
    <header><h2 class="inline"><span class="id" title=${worker.id}>${short(worker.id)}</span><${Copy} text=${worker.id} label="the worker's id" /></h2><${Standing} worker=${worker} />
      <span class="note">${worker.version ? `release ${worker.version}` : "of another release, or before its first renewal"} · started <${Ago} at=${worker.started_at} /> · ${lease}</span>
      <div class="tools"><a href=${link("/requests", { worker: worker.id, status: "in_progress" })}>Its requests</a><${Drain} worker=${worker} done=${done} /></div></header>
    <div class="body"><${Slots} worker=${worker} /><${Reads} worker=${worker} /><${ModelsOf} worker=${worker} /></div></section>`;
}

/** @param {{ worker: Worker }} props */
function Standing({ worker }) {
  if (!worker.alive) return html`<span class="state is-failed"><${Sign} name="bad" />lost; others take over its requests</span>`;
  if (drains(worker)) return html`<span class="state is-pending"><${Sign} name="paused" />draining${worker.in_flight === 0 ? ": nothing runs, it can be stopped" : ""}</span>`;
  return html`<span class="state is-completed"><${Sign} name="ok" />alive</span>`;
}

/** @param {{ worker: Worker }} props */
function Slots({ worker: { in_flight: busy, capacity } }) {
  if (busy === null || capacity === null) return html`<div><h3>Slots</h3><p class="dim">not known</p></div>`;
  return html`<div><h3>Slots</h3><p><b>${number(busy)}</b> of ${number(capacity)} taken</p><span class="meter"><i class=${busy >= capacity ? "is-failed" : ""} style=${{ width: `${capacity ? (busy / capacity) * 100 : 0}%` }}></i></span></div>`;
}

/** @param {{ worker: Worker }} props */
function Reads({ worker: { topics } }) {
  return html`<div><h3>Reads</h3>${!topics?.length && html`<p class="dim">${topics ? "no partition" : "not known"}</p>`}
    ${topics?.map((each) => html`<p key=${each.topic} class="wrap"><a href=${link("/queue", { topic: each.topic })}>${each.topic}</a> <span class="dim">${plural(each.partitions.length, "partition")}:</span> ${ranges(each.partitions)}</p>`)}</div>`;
}

/** 0, 1, 2, 5 → 0–2, 5. @param {number[]} numbers */
function ranges(numbers) {
  /** @type {[number, number][]} */
  const found = [];
  for (const each of [...numbers].sort((a, b) => a - b)) {
    const last = found.at(-1);
    if (last && last[1] === each - 1) last[1] = each;
    else found.push([each, each]);
  }
  return found.map(([from, to]) => (from === to ? from : `${from}–${to}`)).join(", ") || "none";
}

/** @param {{ worker: Worker }} props */
function ModelsOf({ worker: { models } }) {
  return html`<div><h3>Models</h3>${!models?.length && html`<p class="dim">${models ? "none was called yet" : "not known"}</p>`}
    <ul class="plain">${models?.map((each) => html`<li key=${each.model}><a class="wrap" href=${link("/requests", { model: each.model })}>${each.model}</a> <span class="dim">${plural(each.in_flight, "call")} now${each.room !== null && !each.held_until ? `, room for ${number(each.room)} more` : ""}</span>
      ${each.held_until && html` <span class="state is-pending"><${Sign} name="warn" />held back, next call ${relative(each.held_until, now.value)}</span> <code>${each.code}</code> <span class="dim">${each.detail}</span>`}</li>`)}</ul></div>`;
}

/** @param {{ worker: Worker, done: () => void }} props */
function Drain({ worker, done }) {
  const [asked, ask] = useState(false);
  if (worker.drain_requested_at === undefined || !worker.alive || !may("operate")) return null;
  const drains = worker.drain_requested_at !== null;
  async function act() {
    await post(drains ? "/v1/workers/{worker_id}/resume" : "/v1/workers/{worker_id}/drain", { path: { worker_id: worker.id } });
    notify(drains ? `Worker ${short(worker.id)} works again.` : `Worker ${short(worker.id)} takes nothing new.`);
    done();
  }
  return html`<button type="button" onClick=${() => ask(true)}>${drains ? "Let it work again" : "Drain"}</button>
    ${asked && html`<${Confirm} title=${drains ? "Let this worker work again" : "Drain this worker"} yes=${drains ? "Let it work" : "Drain it"} act=${act} close=${() => ask(false)}>
      <p>${drains ? "It takes requests and partitions again." : "It takes nothing new. What it runs goes on to its end, and its partitions go to other workers. It does not stop by itself."}</p></${Confirm}>`}`;
}
