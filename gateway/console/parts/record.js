// The Kafka record that a request came from, as it is in its topic.
import { useState } from "preact/hooks";
import { html } from "../html.js";
import { get, useLoaded } from "../api.js";
import { number, size } from "../format.js";
import { may } from "../session.js";
import { Copy } from "./copy.js";
import { Facts, Loaded, Panel } from "./panel.js";
import { Clock } from "./time.js";

/** @param {{ request: Api.RequestDetail }} props */
export function KafkaRecord({ request }) {
  const [shown, show] = useState(false);
  const record = request.record;
  if (!record) return null;
  const where = `${record.topic}[${record.partition}]@${record.offset}`;
  return html`<${Panel} title="Kafka record" tools=${may("admin") && html`<button type="button" class="quiet" aria-expanded=${shown} onClick=${() => show(!shown)}>${shown ? "Hide" : "Show"}</button>`}>
    <p class="inline"><code class="wrap">${where}</code><${Copy} text=${where} label="its place" /></p>
    ${shown && html`<${Contents} record=${record} />`}
  </${Panel}>`;
}

/** @param {{ record: Api.RecordSource }} props */
function Contents({ record }) {
  const { topic, partition, offset } = record;
  const found = useLoaded((abort) => get("/v1/topics/{topic}/partitions/{partition}/records", { path: { topic, partition }, query: { offset, limit: 1 }, abort }), [topic, partition, offset]);
  return html`<${Loaded} of=${found}>${(/** @type {Api.RecordList} */ page) => {
    const one = page.data.find((each) => each.offset === offset);
    if (!one) return html`<p class="dim">It has aged out: the topic now begins at ${number(page.start)}.</p>`;
    return html`<${Facts} rows=${[
      ["Written", html`<${Clock} at=${one.at} />`], ["Key", one.key && html`<code>${one.key}</code>`], ["Size", one.value_bytes !== null && size(one.value_bytes)],
      ...(one.headers ?? []).map((each) => /** @type {[string, any]} */ ([each.name, html`<code class="wrap">${each.value ?? each.value_base64}</code>`])),
    ]} />
    ${one.value && html`<pre class="value">${one.format === "json" && !one.cut ? JSON.stringify(JSON.parse(one.value), null, 2) : one.value}</pre>`}`;
  }}</${Loaded}>`;
}
