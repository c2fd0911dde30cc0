// The models: what answers under which name, how it is with it now, and pausing it.
import { useState } from "preact/hooks";
import { html } from "../html.js";
import { get, post, useLoaded } from "../api.js";
import { number, plural } from "../format.js";
import { now, useEvery } from "../live.js";
import { byModel, isAgent, pauseOf, reachOf } from "../models.js";
import { notify } from "../notices.js";
import { link } from "../router.js";
import { may } from "../session.js";
import { HeadOfModels, ModelRow } from "../parts/modelrow.js";
import { Page } from "../parts/page.js";
import { Empty, Loaded, Panel } from "../parts/panel.js";
import { Pause } from "../parts/pause.js";
import { Sign } from "../parts/sign.js";

const HOUR = 3_600_000;

export default function Models() {
  const operates = may("operate");
  const models = useLoaded((abort) => get("/openai/v1/models", { abort }), []);
  const stats = useLoaded((abort) => (operates ? get("/v1/stats", { query: hour(), abort }) : Promise.resolve(null)), [operates]);
  const queue = useLoaded((abort) => (operates ? get("/v1/queue", { abort }) : Promise.resolve(null)), [operates]);
  const workers = useLoaded((abort) => (operates ? get("/v1/workers", { abort }) : Promise.resolve(null)), [operates]);
  const [asked, ask] = useState(/** @type {{ model: string | null } | null} */ (null));
  useEvery(4, queue.reload);
  useEvery(10, workers.reload);
  useEvery(20, () => {
    stats.reload();
    models.reload();
  });
  async function resume(/** @type {string | null} */ model) {
    try {
      await (model === null ? post("/v1/tenant/resume") : post("/v1/models/{model_id}/resume", { path: { model_id: model } }));
      notify(model === null ? "All models go on." : `Model ${model} goes on.`);
    } catch (error) {
      notify(`It could not be resumed: ${error instanceof Error ? error.message : error}`, "bad");
    }
    queue.reload();
  }
  const counts = byModel(stats.data ?? undefined);
  const tenant = pauseOf(queue.data ?? undefined, null);
  const tools = operates && queue.data && (tenant
    ? html`<button type="button" class="primary" onClick=${() => resume(null)}>Resume all</button>`
    : html`<button type="button" onClick=${() => ask({ model: null })}>Pause all …</button>`);
  return html`<${Page} title="Models" tools=${tools}>
    ${tenant && html`<section class="panel said-first" aria-label="Pause"><div class="empty"><${Sign} name="paused" tone="warn" /><div>
      <p class="strong">All models are paused. Requests are accepted, and wait.</p>${tenant.reason && html`<p class="dim">${tenant.reason}</p>`}</div></div></section>`}
    <${Panel} title="What answers" note=${operates ? "counts of the last hour; times at the model" : "names to ask for"} flush><${Loaded} of=${models}>${(/** @type {any} */ data) => {
      const found = data.data.filter((/** @type {any} */ each) => !isAgent(each));
      if (!found.length) {
        return html`<${Empty} title="No model has been named yet."><p class="dim">Workers write the names that their LLM service has. Start both, or see what it has:</p><pre>orchestra models</pre></${Empty}>`;
      }
      return html`<table class="cards models"><${HeadOfModels} operates=${operates} /><tbody>${found.map((/** @type {any} */ model) => html`<${ModelRow}
        key=${model.id} model=${model} operates=${operates} pause=${pauseOf(queue.data ?? undefined, model.id)} hour=${counts.get(model.id)} known=${!!stats.data}
        reach=${operates && queue.data && workers.data && stats.data ? reachOf(model.id, queue.data, workers.data, counts.get(model.id), now.value) : undefined}
        ask=${() => ask({ model: model.id })} resume=${() => resume(model.id)} />`)}</tbody></table>
        <p class="under dim">${plural(found.length, "model")}${operates ? html`. A request may also ask for <a href=${link("/agents")}>an agent</a>.` : "."}
          ${operates && stats.data && ` ${number(rest(stats.data))} requests of the last hour asked for other names.`}</p>`;
    }}</${Loaded}></${Panel}>
    ${asked && html`<${Pause} model=${asked.model} close=${() => ask(null)} done=${queue.reload} />`}
  </${Page}>`;
}

/** The hour before this minute, as one step. */
function hour() {
  const to = Math.floor(now.peek() / 60_000) * 60_000 + 60_000;
  return { from: new Date(to - HOUR).toISOString(), to: new Date(to).toISOString(), step: 3600, by: "model" };
}

/** @param {Api.StatsAnswer} stats */
const rest = (stats) => stats.data.filter((each) => each.key === null).reduce((sum, each) => sum + each.requests, 0);
