// One request: why it waits, what happened to it, its answer as it comes, and everything that is known of it.
import { useEffect, useMemo, useState } from "preact/hooks";
import { html } from "../html.js";
import { get, useLoaded } from "../api.js";
import { short } from "../format.js";
import { useKeys } from "../keys.js";
import { isOpen, isReadable } from "../list.js";
import { changed, useEvery, watch } from "../live.js";
import { Stream } from "../stream.js";
import { Answer, Messages } from "../parts/answer.js";
import { Copy } from "../parts/copy.js";
import { Events } from "../parts/events.js";
import { KafkaRecord } from "../parts/record.js";
import { KnownFacts } from "../parts/requestfacts.js";
import { Page } from "../parts/page.js";
import { Failure, Missing, Panel } from "../parts/panel.js";
import { RequestActions } from "../parts/requestactions.js";
import { State } from "../parts/sign.js";
import { Timeline } from "../parts/timeline.js";
import { Waiting } from "../parts/waiting.js";

/** @param {{ id: string }} props */
export default function RequestPage({ id }) {
  const request = useLoaded((abort) => get("/v1/requests/{request_id}", { path: { request_id: id }, abort }), [id]);
  const stream = useMemo(() => new Stream(id), [id]);
  const [ended, setEnded] = useState(false);
  const data = /** @type {Api.RequestDetail | undefined} */ (request.data);
  const open = !!data && isOpen(data);
  // Only what the API knows is watched and followed: an address can have any text as its id.
  useEffect(() => {
    if (!data) return undefined;
    watch([id]);
    if (isReadable(data)) stream.open();
    return () => {
      watch([]);
      stream.close();
    };
  }, [stream, !data]);
  useEffect(() => changed.subscribe((ids) => void (ids.includes(id) && request.reload())), [id]);
  // A row that no worker has read yet changes without an event.
  useEvery(3, () => open && request.reload());
  useEffect(() => stream.state.subscribe((state) => state === "ended" && setEnded(true)), [stream]);
  useEffect(() => {
    if (ended) request.reload();
  }, [ended]);
  useKeys([{ key: "w", text: "Watch the stream from its beginning", run: () => data && isReadable(data) && stream.open() }]);
  if (request.problem && !data) {
    if (request.problem.status === 404) return html`<${Missing} title="Request" what="request" list="/requests" />`;
    return html`<${Page} title="Request"><${Failure} problem=${request.problem} again=${request.reload} /></${Page}>`;
  }
  const title = html`<span>Request</span><span class="inline"><span class="id" title=${id}>${short(id)}</span><${Copy} text=${id} label="the id" /></span>
    ${data && html`<${State} of=${data.status} cancelling=${data.cancel_requested} />`}`;
  return html`<${Page} title=${title} tools=${data && html`<${RequestActions} request=${data} reload=${request.reload} />`}>
    ${!data && html`<div class="loading" aria-busy="true"></div>`}
    ${data && html`
      ${open && html`<${Waiting} request=${data} />`}
      <${Timeline} request=${data} />
      <div class="columns wide-first">
        <div class="stack">${isReadable(data) ? html`<${Messages} request=${data} /><${Answer} request=${data} stream=${stream} /><${Events} stream=${stream} />`
          : html`<${Panel} title="Messages and answer"><p class="dim">They are another owner's. An operator sees what a request does, not what is said in it.</p></${Panel}>`}</div>
        <div class="stack"><${KnownFacts} request=${data} /><${KafkaRecord} request=${data} /></div>
      </div>`}
  </${Page}>`;
}
