// How far each partition of a topic is written and read, and by which worker.
import { html } from "../html.js";
import { number, plural, short } from "../format.js";
import { link, linkIfAny, query, refine } from "../router.js";
import { Empty, Loaded, Panel } from "./panel.js";
import { Ago } from "./time.js";

/** @param {{ topics: { data: Api.TopicList | undefined, problem: any, reload: () => void }, workers: Api.WorkerList | undefined }} props */
export function TopicStates({ topics, workers }) {
  const found = topics.data?.data ?? [];
  const topic = found.find((each) => each.topic === query.value.get("topic")) ?? found[0];
  const tools = found.length > 1 && html`<label class="beside">Topic<select value=${topic?.topic} onChange=${(/** @type {any} */ event) => refine({ topic: event.target.value })}>
    ${found.map((each) => html`<option key=${each.topic} value=${each.topic} selected=${each === topic}>${each.topic}${each.lag ? ` (${number(each.lag)} not read)` : ""}</option>`)}</select></label>`;
  return html`<${Panel} title="Partitions" note=${topic && noteOf(topic)} tools=${tools} flush><${Loaded} of=${topics}>${() => {
    if (!topic) return html`<${Empty} title="There is no topic yet." sign="warn"><p class="dim">Gateways and workers make them at their start.</p></${Empty}>`;
    return html`<${Partitions} topic=${topic} workers=${workers} />`;
  }}</${Loaded}></${Panel}>`;
}

/** @param {Api.TopicState} topic */
function noteOf({ partitions, lag }) {
  const read = lag === null ? "workers do not read it" : lag ? `${plural(lag, "record is", "records are")} not read yet` : "all is read";
  return `${plural(partitions.length, "partition")}, ${read}`;
}

/** @param {{ topic: Api.TopicState, workers: Api.WorkerList | undefined }} props */
function Partitions({ topic, workers }) {
  const read = topic.lag !== null;
  return html`<table class="partitions"><thead><tr><th>Partition</th><th class="num">Records kept</th><th class="num">End</th>${read && html`<th class="num">Read</th><th class="num">Lag</th>`}<th class="num extra">Last record</th>${read && html`<th class="extra">Worker</th>`}</tr></thead>
    <tbody>${topic.partitions.map((each) => {
      const page = `/topics/${topic.topic}/${each.partition}`;
      const href = linkIfAny(page);
      const kept = each.end - each.start;
      return html`<tr key=${each.partition} class=${kept ? "" : "dim"}>
        <td>${href ? html`<a href=${href}>${each.partition}</a>` : each.partition}</td><td class="num">${number(kept)}</td><td class="num">${number(each.end)}</td>
        ${read && html`<td class="num">${number(each.read)}</td><td class=${`num ${each.lag ? "is-pending strong" : ""}`}>${each.lag && href ? html`<a href=${linkIfAny(page, { offset: String(each.read ?? each.start) })} title="The records that no worker has read">${number(each.lag)}</a>` : number(each.lag)}</td>`}
        <td class="num extra"><${Ago} at=${each.last_record_at} /></td>${read && html`<td class="extra"><${Reader} topic=${topic.topic} partition=${each.partition} workers=${workers} /></td>`}</tr>`;
    })}</tbody></table>`;
}

/** The worker that reads a partition, as the workers say. @param {{ topic: string, partition: number, workers: Api.WorkerList | undefined }} props */
function Reader({ topic, partition, workers }) {
  const of = workers?.data.filter((worker) => worker.alive && worker.topics?.some((each) => each.topic === topic && each.partitions.includes(partition))) ?? [];
  if (!of.length) return html`<span class=${workers ? "is-pending" : "dim"}>${workers ? "none" : "–"}</span>`;
  return html`${of.map((worker) => html`<a key=${worker.id} class="id" href=${link("/workers")} title=${worker.id}>${short(worker.id)}</a>`)}`;
}
