// One model in the list of models.
import { html } from "../html.js";
import { cents, clock, compact, duration, money, number } from "../format.js";
import { now } from "../live.js";
import { pauseOf } from "../pauses.js";
import { link, linkIfAny } from "../router.js";
import { Copy } from "./copy.js";
import { by, Pause, Resume } from "./pauses.js";
import { Sign } from "./sign.js";

/** @param {{ operates: boolean }} props */
export const HeadOfModels = ({ operates }) => html`<thead><tr><th>Model</th>${operates && html`<th>State</th>
  <th class="num">Answered</th><th class="num">Failed</th><th class="num">p50</th><th class="num">p95</th><th class="num">Tokens</th><th class="num">Cost</th>`}
  <th class="spare">Limits and price</th><th></th></tr></thead>`;

/**
 * @param {{ model: Api.ModelObject, operates: boolean, pauses: Api.PauseResource[] | undefined, hour?: Api.StatsPoint, known: boolean,
 *   reach?: import("../models.js").Reach, done: () => void }} props
 */
export function ModelRow({ model, operates, pauses, hour, known, reach, done }) {
  const pause = pauseOf(pauses, model.id);
  const none = known ? "0" : "–";
  return html`<tr>
    <td class="main"><span class="inline"><a class="strong" href=${link("/requests", { model: model.id })}>${model.id}</a><${Copy} text=${model.id} label="the name" /></span>
      <span class="dim small">at ${model.owned_by}${model.aliases && `; also ${model.aliases.join(", ")}`}</span></td>
    ${operates && html`<td class="reach"><${ReachOf} reach=${reach} pause=${pause} /></td>
    <td class="num" data-name="Answered">${hour ? number(hour.completed) : none}</td>
    <td class="num" data-name="Failed">${hour?.failed ? html`<a class="is-failed" href=${link("/requests", { model: model.id, status: "failed" })}>${number(hour.failed)}</a>` : none}</td>
    <td class="num" data-name="p50" data-none=${hour ? undefined : ""} title="At the model, from its first attempt to its end">${duration(hour?.model_seconds.p50)}</td>
    <td class="num" data-name="p95" data-none=${hour ? undefined : ""} title="At the model, from its first attempt to its end">${duration(hour?.model_seconds.p95)}</td>
    <td class="num" data-name="Tokens" data-none=${hour ? undefined : ""}>${hour ? compact(hour.input_tokens + hour.output_tokens) : none}</td>
    <td class="num" data-name="Cost" data-none=${hour?.cost ? undefined : ""}>${hour?.cost ? cents(hour.cost) : "–"}</td>`}
    <td class="limits spare">${limits(model).map((each) => html`<span class="small dim" key=${each}>${each}</span>`)}</td>
    <td class="num act"><span class="inline">${linkIfAny("/playground") && html`<a class="button" href=${link("/playground", { model: model.id })}>Try it</a>`}
      ${pauses && (pause ? html`<${Resume} model=${model.id} done=${done} />` : html`<${Pause} model=${model.id} done=${done} />`)}</span></td>
  </tr>`;
}

/** @param {{ reach?: import("../models.js").Reach, pause?: Api.PauseResource }} props */
function ReachOf({ reach, pause }) {
  const why = pause ? html`${pause.until ? `until ${clock(pause.until, now.value)}` : "until someone resumes it"}${by(pause)}${pause.reason ? `: ${pause.reason}` : ""}` : reach?.why;
  if (!pause && !reach) return html`<span class="dim">–</span>`;
  const [name, tone, word] = pause ? ["paused", "warn", "paused"] : [reach?.sign, reach?.tone, reach?.word];
  return html`<span class="state"><${Sign} name=${name} tone=${tone} />${word}</span>${why && html`<span class="dim small wrap">${why}</span>`}`;
}

/** What is known of its limits, in words. @param {Api.ModelObject} model @returns {string[]} */
function limits({ context_tokens: context, max_output_tokens: answer, max_concurrency: most, requests_per_minute: rate, fallbacks, price }) {
  const found = [
    context && `${compact(context)} tokens, answer ${compact(answer)}`,
    [most && `${number(most)} at a time`, rate && `${number(rate)} a minute`].filter(Boolean).join(", "),
    fallbacks?.length && `instead: ${fallbacks.join(", ")}`,
    price && `${money(price.input)} in, ${money(price.output)} out per M`,
  ];
  return /** @type {string[]} */ (found.filter(Boolean));
}
