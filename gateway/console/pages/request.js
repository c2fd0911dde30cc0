// One request: why it waits, what happened to it, its answer as it comes, and everything that is known of it.
import { useEffect, useMemo, useState } from "preact/hooks";
import { html } from "../html.js";
import { get, useLoaded } from "../api.js";
import { short } from "../format.js";
import { useKeys } from "../keys.js";
import { isOpen } from "../list.js";
import { changed, useEvery, watch } from "../live.js";
import { link } from "../router.js";
import { Stream } from "../stream.js";
import { Answer, Messages } from "../parts/answer.js";
import { Copy } from "../parts/copy.js";
import { Events } from "../parts/events.js";
import { KafkaRecord } from "../parts/record.js";
import { KnownFacts } from "../parts/requestfacts.js";
import { Page } from "../parts/page.js";
import { Empty, Failure } from "../parts/panel.js";
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
  useEffect(() => {
    watch([id]);
    return () => watch([]);
  }, [id]);
  useEffect(() => changed.subscribe((ids) => void (ids.includes(id) && request.reload())), [id]);
  // A row that no worker has read yet changes without an event.
  useEvery(3, () => open && request.reload());
  useEffect(() => {
    stream.open();
    return () => stream.close();
  }, [stream]);
  useEffect(() => stream.state.subscribe((state) => state === "ended" && setEnded(true)), [stream]);
  useEffect(() => {
    if (ended) request.reload();
  }, [ended]);
  useKeys([{ key: "w", text: "Watch the stream from its beginning", run: () => stream.open() }]);
  if (request.problem && !data) {
    return html`<${Page} title="Request">${request.problem.status === 404
      ? html`<${Empty} title="There is no such request, or it is not yours to see."><p><a href=${link("/requests")}>To the list</a></p></${Empty}>`
      : html`<${Failure} problem=${request.problem} again=${request.reload} />`}</${Page}>`;
  }
  const title = html`<span>Request</span><span class="inline"><span class="id" title=${id}>${short(id)}</span><${Copy} text=${id} label="the id" /></span>
    ${data && html`<${State} of=${data.status} cancelling=${data.cancel_requested} />`}`;
  return html`<${Page} title=${title} tools=${data && html`<${RequestActions} request=${data} reload=${request.reload} />`}>
    ${!data && html`<div class="loading" aria-busy="true"></div>`}
    ${data && html`
      ${open && html`<${Waiting} request=${data} />`}
      <${Timeline} request=${data} />
      <div class="columns wide-first">
        <div class="stack"><${Messages} request=${data} /><${Answer} request=${data} stream=${stream} /><${Events} stream=${stream} /></div>
        <div class="stack"><${KnownFacts} request=${data} /><${KafkaRecord} request=${data} /></div>
      </div>`}
  </${Page}>`;
}
