// Records of one partition as they are in Kafka, from an offset or a time on.
import { html } from "../html.js";
import { get, useLoaded } from "../api.js";
import { bytesOf, printable } from "../bytes.js";
import { local, number, plural, size } from "../format.js";
import { link, query, refine } from "../router.js";
import { Page } from "../parts/page.js";
import { Empty, Loaded, Missing } from "../parts/panel.js";
import { RecordContents } from "../parts/recordcontents.js";
import { Clock } from "../parts/time.js";

const LIMIT = 20;
/** Characters of a value in a row. */
const SHOWN = 160;

/** @param {{ topic: string, partition: string }} props */
export default function Records({ topic, partition }) {
  const offset = query.value.get("offset") ?? "";
  const at = query.value.get("at") ?? "";
  const found = useLoaded((abort) => get("/v1/topics/{topic}/partitions/{partition}/records", { path: { topic, partition }, query: { offset, at, limit: LIMIT }, abort }), [topic, partition, offset, at]);
  if (found.problem?.status === 404 && !found.data) return html`<${Missing} title="Records" what="partition" list="/queue" />`;
  const title = html`<span>Records</span><span class="id">${topic}[${partition}]</span>`;
  return html`<${Page} title=${title} note=${found.data && `offsets ${number(found.data.start)} to ${number(found.data.end - 1)} are kept`} tools=${html`<a class="button" href=${link("/queue", { topic })}>All partitions</a>`}>
    <section class="panel" aria-label="Records"><${Place} offset=${offset} at=${at} />
      <${Loaded} of=${found}>${(/** @type {Api.RecordList} */ page) => html`<${List} page=${page} asked=${offset || at} loading=${found.loading} reload=${found.reload} />`}</${Loaded}>
    </section></${Page}>`;
}

/** @param {{ offset: string, at: string }} props */
function Place({ offset, at }) {
  function submit(/** @type {SubmitEvent} */ event) {
    event.preventDefault();
    const form = new FormData(/** @type {HTMLFormElement} */ (event.currentTarget));
    const [first, moment] = [String(form.get("offset") ?? ""), String(form.get("at") ?? "")];
    // What was changed counts; the API takes one of them.
    const byOffset = (first && first !== offset) || !moment;
    refine({ record: undefined, offset: byOffset ? first : undefined, at: byOffset ? undefined : new Date(moment).toISOString() });
  }
  return html`<div class="filters"><form class="letterform" onSubmit=${submit} key=${`${offset} ${at}`}>
    <label class="beside">From offset<input type="number" min="0" name="offset" value=${offset} /></label>
    <label class="beside">or time<input type="datetime-local" step="1" name="at" value=${local(at, true)} /></label>
    <button type="submit">Show</button></form>
    <nav class="segments states" aria-label="Go to"><a href=${link(location.pathname.slice("/console".length), { offset: "0" })}>oldest</a><a href=${link(location.pathname.slice("/console".length))} aria-current=${offset || at ? undefined : "true"}>newest</a></nav></div>`;
}

/** @param {{ page: Api.RecordList, asked: string, loading: boolean, reload: () => void }} props */
function List({ page, asked, loading, reload }) {
  const open = query.value.get("record");
  const first = page.data[0]?.offset ?? page.end;
  const here = `/topics/${page.topic}/${page.partition}`;
  return html`${!page.data.length && html`<${Nothing} page=${page} asked=${asked} />`}
    ${page.data.length > 0 && html`<div class="flush" aria-busy=${loading}><table class="cards records"><thead><tr><th>Offset</th><th>Written</th><th>Key</th><th>Value</th><th class="num">Size</th><th>Request</th><th><span class="hidden">Contents</span></th></tr></thead>
      <tbody>${page.data.map((each) => html`<${Row} key=${each.offset} of=${each} open=${open === String(each.offset)} toggle=${() => refine({ record: open === String(each.offset) ? undefined : String(each.offset) })} />`)}</tbody></table></div>`}
    <footer class="pager"><span class="dim">${plural(page.data.length, "record")}${page.next === null ? "; the last one is the newest" : ""}</span>
      <button type="button" onClick=${reload}>Reload</button>
      ${first > page.start && html`<a class="button" href=${link(here, { offset: String(Math.max(page.start, first - LIMIT)) })}>Before</a>`}
      ${page.next !== null && html`<a class="button" href=${link(here, { offset: String(page.next) })}>After</a>`}</footer>`;
}

/** @param {{ page: Api.RecordList, asked: string }} props */
const Nothing = ({ page, asked }) => html`<${Empty} title=${page.end === page.start ? "The partition keeps no record." : asked ? "No record is at this place or after it." : "No record was read in time."}>
  <p class="dim">${page.end === page.start ? "Records go to a partition by their key." : `It keeps the offsets ${number(page.start)} to ${number(page.end - 1)}.`}</p></${Empty}>`;

/** How a value begins; of bytes that are no text those that can be printed. @param {Api.TopicRecord} record */
function preview({ format, value }) {
  if (format !== "base64") return value?.slice(0, SHOWN) ?? "";
  return [...(bytesOf(null, value) ?? [])].slice(0, SHOWN).map(printable).join("");
}

/** @param {{ of: Api.TopicRecord, open: boolean, toggle: () => void }} props */
function Row({ of, open, toggle }) {
  return html`<tr class=${open ? "here" : ""}><td class="id">${of.offset}</td><td><${Clock} at=${of.at} /></td>
    <td class="name" data-none=${of.key ?? of.key_base64 ? undefined : ""}><span class="mono" title=${of.key}>${of.key ?? of.key_base64 ?? "–"}</span></td>
    <td class="what">${of.shown ? html`<span class="cut mono">${preview(of)}</span>` : html`<span class="dim">of another tenant</span>`}</td>
    <td class="num">${of.value_bytes === null ? html`<span class="dim">no value</span>` : size(of.value_bytes)}</td>
    <td>${of.request_id ? html`<a class="id" href=${link(`/requests/${of.request_id}`)} title=${of.request_id}>…${of.request_id.slice(-8)}</a>` : html`<span class="dim">–</span>`}</td>
    <td class="num">${of.shown && html`<button type="button" class="quiet" aria-expanded=${open} aria-label=${`Contents of record ${of.offset}`} onClick=${toggle}>${open ? "Hide" : "Show"}</button>`}</td></tr>
    ${open && html`<tr class="opened"><td colspan="7"><${RecordContents} of=${of} /></td></tr>`}`;
}
