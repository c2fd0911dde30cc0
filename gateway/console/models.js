// What is known of the models: what answers under a name, and how it is with it now.
import { clock } from "./format.js";

/** @typedef {{ word: string, sign: string, tone: string, why?: string | undefined }} Reach */

/**
 * Whether a model answers, as far as anyone has seen. Worst first.
 * @param {string} name
 * @param {Api.QueueState | undefined} queue
 * @param {Api.WorkerList | undefined} workers
 * @param {Api.StatsPoint | undefined} hour
 * @param {number} now
 * @returns {Reach}
 */
export function reachOf(name, queue, workers, hour, now) {
  const held = queue?.held.find((each) => each.model === name);
  const alive = (workers?.data ?? []).filter((each) => each.alive);
  if (held) {
    return { word: "refuses calls", sign: "bad", tone: "bad", why: `${held.code ?? "unknown"}${held.detail ? `: ${held.detail}` : ""}; asked again at ${clock(held.until, now)}` };
  }
  if (workers && !alive.length) return { word: "no worker", sign: "warn", tone: "warn", why: "No worker is alive: requests wait." };
  if (workers && alive.every(drains)) return { word: "workers drain", sign: "warn", tone: "warn", why: "Every worker drains: what runs goes on, other requests wait." };
  if (hour?.completed) return { word: "answers", sign: "ok", tone: "ok" };
  if (hour?.failed) return { word: "only failures", sign: "bad", tone: "bad", why: "Nothing was answered in the last hour." };
  if (hour) return { word: "not known", sign: "info", tone: "", why: "What ended in the last hour was cancelled or expired." };
  return { word: "not called", sign: "info", tone: "", why: "Nothing ended in the last hour, so it is not known." };
}

/** Whether a worker takes nothing new, or is about to. @param {Api.WorkerResource} worker */
export const drains = (worker) => !!worker.draining || !!worker.drain_requested_at;

/**
 * The last hour of one model, of several points.
 * @param {Api.StatsAnswer | undefined} stats
 * @returns {Map<string, Api.StatsPoint>} by model; the newest point counts
 */
export function byModel(stats) {
  return new Map((stats?.data ?? []).flatMap((each) => (each.key === null ? [] : [[each.key, each]])));
}

/** @param {any} model */
export const isAgent = (model) => model.id.startsWith("agent:");
