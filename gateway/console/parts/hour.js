// The last hour, minute by minute.
import { html } from "../html.js";
import { brief, compact } from "../format.js";
import { now } from "../live.js";
import { Chart } from "./chart.js";
import { Loaded, Panel } from "./panel.js";

const MINUTES = 60;
/** Distances of the lines of a grid: whole numbers, and times as one reads them. */
const WHOLE = Array.from({ length: 13 }, (_, power) => [1, 2, 5].map((each) => each * 10 ** power)).flat();
const TIMES = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600, 43_200, 86_400];

/** @typedef {Pick<Api.LiveMinute, "completed" | "failed" | "input_tokens" | "output_tokens">} Minute */

/**
 * @param {{ stats: { data: Api.StatsAnswer | undefined, problem: any, reload: () => void }, frame: Api.LiveFrame | undefined }} props
 */
export function Hour({ stats, frame }) {
  // The present minute is not over: it would look like a fall.
  const to = (Math.floor(now.value / 60_000) - 1) * 60;
  const times = Array.from({ length: MINUTES }, (_, index) => to - (MINUTES - 1 - index) * 60);
  return html`<div class="columns three">
    <${Panel} title="Ended each minute" note="last hour"><${Loaded} of=${stats}>${(/** @type {Api.StatsAnswer} */ data) => {
      const points = merged(data, frame);
      const of = (/** @type {"completed" | "failed"} */ field) => times.map((at) => points.get(at)?.[field] ?? 0);
      return html`<${Chart} label="Ended each minute" times=${times} format=${compact} steps=${WHOLE} lines=${[
        { name: "answered", color: "completed", values: of("completed"), fill: true },
        { name: "failed", color: "failed", values: of("failed"), fill: true },
      ]} />`;
    }}</${Loaded}></${Panel}>
    <${Panel} title="How long it took" note="p95 by minute"><${Loaded} of=${stats}>${(/** @type {Api.StatsAnswer} */ data) => {
      const points = new Map(data.data.map((each) => [Date.parse(each.at) / 1000, each]));
      const of = (/** @type {"queue_seconds" | "model_seconds"} */ field) => times.map((at) => points.get(at)?.[field].p95 ?? null);
      return html`<${Chart} label="How long it took" times=${times} format=${brief} steps=${TIMES} lines=${[
        { name: "in the queue", color: "pending", values: of("queue_seconds"), dash: [4, 3] },
        { name: "at the model", color: "running", values: of("model_seconds") },
      ]} />`;
    }}</${Loaded}></${Panel}>
    <${Panel} title="Tokens each minute" note="last hour"><${Loaded} of=${stats}>${(/** @type {Api.StatsAnswer} */ data) => {
      const points = merged(data, frame);
      const of = (/** @type {"input_tokens" | "output_tokens"} */ field) => times.map((at) => points.get(at)?.[field] ?? 0);
      return html`<${Chart} label="Tokens each minute" times=${times} format=${compact} steps=${WHOLE} lines=${[
        { name: "of prompts", color: "expired", values: of("input_tokens"), dash: [4, 3] },
        { name: "of answers", color: "running", values: of("output_tokens"), fill: true },
      ]} />`;
    }}</${Loaded}></${Panel}>
  </div>`;
}

/**
 * The minutes as they were last counted: the frame's are newer.
 * @param {Api.StatsAnswer} stats
 * @param {Api.LiveFrame | undefined} frame
 * @returns {Map<number, Minute>}
 */
function merged(stats, frame) {
  /** @type {Map<number, Minute>} */
  const points = new Map();
  for (const each of stats.data) points.set(Date.parse(each.at) / 1000, each);
  for (const each of frame?.minutes ?? []) points.set(Date.parse(each.minute) / 1000, each);
  return points;
}
