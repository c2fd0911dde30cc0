// The line itself: what waits by model and priority, what comes next, what is held back, and how far the topics are read.
import { html } from "../html.js";
import { get, useLoaded } from "../api.js";
import { count, duration, number } from "../format.js";
import { useEvery } from "../live.js";
import { pauseOf } from "../pauses.js";
import { link } from "../router.js";
import { Head } from "../parts/depth.js";
import { Held } from "../parts/held.js";
import { Matrix } from "../parts/matrix.js";
import { Page } from "../parts/page.js";
import { Pause, Paused } from "../parts/pauses.js";
import { Tile } from "../parts/tile.js";
import { TopicStates } from "../parts/topics.js";

export default function Queue() {
  const queue = useLoaded((abort) => get("/v1/queue", { abort }), []);
  const topics = useLoaded((abort) => get("/v1/topics", { abort }), []);
  const workers = useLoaded((abort) => get("/v1/workers", { abort }), []);
  useEvery(4, queue.reload);
  useEvery(10, topics.reload);
  useEvery(10, workers.reload);
  const pauses = queue.data?.pauses;
  return html`<${Page} title="Queue" tools=${pauses && !pauseOf(pauses, null) && html`<${Pause} model=${null} done=${queue.reload} />`}>
    <${Paused} pauses=${pauses} done=${queue.reload} />
    <${Numbers} queue=${queue.data} />
    <${Matrix} queue=${queue} />
    <div class="columns wide-first"><${Head} queue=${queue} /><${Held} queue=${queue} /></div>
    <${TopicStates} topics=${topics} workers=${workers.data} />
  </${Page}>`;
}

/** @param {{ queue: Api.QueueState | undefined }} props */
function Numbers({ queue }) {
  const sum = (/** @type {"held" | "paused"} */ name) => queue?.by_priority.reduce((all, each) => all + (each[name] ?? 0), 0) ?? 0;
  const [held, paused] = [sum("held"), sum("paused")];
  const waits = [held && `${number(held)} held back`, paused && `${number(paused)} paused`].filter(Boolean).join(", ");
  const pending = link("/requests", { status: "pending" });
  return html`<div class="tiles six">
    <${Tile} name="Open" value=${number(queue?.open)} note=${queue?.unread ? `and ${number(queue.unread)} accepted, not read yet` : "waiting and running"} tone=${queue?.unread ? "warn" : ""} href=${link("/requests")} />
    <${Tile} name="Runnable" value=${count(queue?.runnable)} note=${waits || "a worker may take them"} tone=${waits ? "warn" : ""} href=${pending} />
    <${Tile} name="Oldest" value=${duration(queue?.oldest_seconds)} note="of the runnable" href=${pending} />
    <${Tile} name="Running" value=${count(queue?.in_progress)} note="taken by workers" href=${link("/requests", { status: "in_progress" })} />
    <${Tile} name="Behind others" value=${count(queue?.waiting)} note="of their conversation" href=${pending} />
    <${Tile} name="Delayed" value=${count(queue?.delayed)} note="to a time, or backing off" href=${pending} /></div>`;
}
