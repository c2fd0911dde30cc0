// The models: what answers under which name, how it is with it now, and pausing it.
import { html } from "../html.js";
import { get, useLoaded } from "../api.js";
import { plural } from "../format.js";
import { now, useEvery } from "../live.js";
import { byModel, isAgent, reachOf } from "../models.js";
import { pauseOf } from "../pauses.js";
import { link } from "../router.js";
import { may } from "../session.js";
import { HeadOfModels, ModelRow } from "../parts/modelrow.js";
import { Page } from "../parts/page.js";
import { Empty, Loaded, Panel } from "../parts/panel.js";
import { Pause, Paused } from "../parts/pauses.js";

const HOUR = 3_600_000;

export default function Models() {
  const operates = may("operate");
  const models = useLoaded((abort) => get("/openai/v1/models", { abort }), []);
  const stats = useLoaded((abort) => (operates ? get("/v1/stats", { query: hour(), abort }) : Promise.resolve(null)), [operates]);
  const queue = useLoaded((abort) => (operates ? get("/v1/queue", { abort }) : Promise.resolve(null)), [operates]);
  const workers = useLoaded((abort) => (operates ? get("/v1/workers", { abort }) : Promise.resolve(null)), [operates]);
  useEvery(4, queue.reload);
  useEvery(10, workers.reload);
  useEvery(20, () => {
    stats.reload();
    models.reload();
  });
  const counts = byModel(stats.data ?? undefined);
  const pauses = queue.data?.pauses;
  const all = pauseOf(pauses, null);
  return html`<${Page} title="Models" tools=${pauses && !all && html`<${Pause} model=${null} done=${queue.reload} />`}>
    <${Paused} pauses=${all && [all]} done=${queue.reload} />
    <${Panel} title="What answers" note=${operates ? "counts of the last hour; times at the model" : "names to ask for"} flush><${Loaded} of=${models}>${(/** @type {any} */ data) => {
      const found = data.data.filter((/** @type {any} */ each) => !isAgent(each));
      if (!found.length) {
        return html`<${Empty} title="No model has been named yet."><p class="dim">Workers write the names that their LLM service has. Start both, or see what it has:</p><pre>orchestra models</pre></${Empty}>`;
      }
      const simulated = found.every((/** @type {any} */ model) => model.owned_by === "simulated");
      return html`${simulated && html`<p class="above dim">To connect one, set <code>LLM_PROVIDER</code> and <code>LLM_MODEL</code>, or <code>MODELS_FILE</code>, of the LLM service: <code>docs/howto/choose-models.md</code>.</p>`}<table class="cards models"><${HeadOfModels} operates=${operates} /><tbody>${found.map((/** @type {any} */ model) => html`<${ModelRow}
        key=${model.id} model=${model} operates=${operates} pauses=${pauses} hour=${counts.get(model.id)} known=${!!stats.data}
        reach=${operates && queue.data && workers.data && stats.data ? reachOf(model.id, queue.data, workers.data, counts.get(model.id), now.value) : undefined} done=${queue.reload} />`)}</tbody></table>
        <p class="under dim">${plural(found.length, "model")}. A request may also ask for <a href=${link("/agents")}>an agent</a>.</p>
        ${stats.data && html`<${Others} of=${stats.data.data.filter((/** @type {Api.StatsPoint} */ each) => !found.some((/** @type {any} */ model) => model.id === each.key))} />`}`;
    }}</${Loaded}></${Panel}>
  </${Page}>`;
}

/** The hour before this minute, as one step. */
function hour() {
  const to = Math.floor(now.peek() / 60_000) * 60_000 + 60_000;
  return { from: new Date(to - HOUR).toISOString(), to: new Date(to).toISOString(), step: 3600, by: "model" };
}

/** What was asked for by other names: aliases, and models that are not there any more. @param {{ of: Api.StatsPoint[] }} props */
const Others = ({ of }) => of.length > 0 && html`<p class="under dim">Also asked for in the last hour: ${of.map((each, index) => html`${index > 0 && ", "}${each.key === null
  ? "all other names" : html`<a href=${link("/requests", { model: each.key })}>${each.key}</a>`} (${plural(each.requests, "request")})`)}.</p>`;
