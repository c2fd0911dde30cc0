// The overview: what needs someone, what happens now, and what the last hour was like.
import { get, useLoaded } from "../api.js";
import { minuteOf } from "../format.js";
import { html } from "../html.js";
import { frame, now, useEvery } from "../live.js";
import { may } from "../session.js";
import { Findings } from "../parts/findings.js";
import { Hour } from "../parts/hour.js";
import { Depth, Head, Models } from "../parts/depth.js";
import { Numbers, OwnNumbers } from "../parts/numbers.js";
import { Page } from "../parts/page.js";
import { Latest } from "../parts/latest.js";

export default function Overview() {
  return may("operate") ? html`<${Operators} />` : html`<${Own} />`;
}

function Operators() {
  const hour = useLoaded((abort) => get("/v1/stats", { query: { step: 60 }, abort }), []);
  const models = useLoaded((abort) => get("/v1/stats", { query: { step: 3600, by: "model" }, abort }), []);
  const queue = useLoaded((abort) => get("/v1/queue", { abort }), []);
  const topics = useLoaded((abort) => get("/v1/topics", { abort }), []);
  useEvery(20, hour.reload);
  // A full minute is shown once it is counted, and not when the next round comes.
  useEvery(3, () => hour.data && minuteOf(hour.data.counted_at) < minuteOf(now.peek()) && hour.reload());
  useEvery(60, models.reload);
  useEvery(4, queue.reload);
  useEvery(15, topics.reload);
  const seen = frame.value?.workers && { frame: frame.value, queue: queue.data, topics: topics.data, stats: hour.data, now: now.value };
  return html`<${Page} title="Overview">
    <${Findings} seen=${seen} />
    <${Numbers} frame=${seen?.frame} stats=${hour.data} />
    <${Hour} stats=${hour} frame=${seen?.frame} />
    <div class="columns">
      <div class="stack"><${Depth} queue=${queue} /><${Head} queue=${queue} /></div>
      <${Models} queue=${queue} stats=${models} />
    </div>
  </${Page}>`;
}

/** A caller who may not see the tenant's numbers sees their own. */
function Own() {
  return html`<${Page} title="Overview"><${OwnNumbers} frame=${frame.value} /><${Latest} /></${Page}>`;
}
