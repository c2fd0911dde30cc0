// "What needs you": findings in words, each with the place where one looks next. Worst first.
import { clock, duration, number, plural, sentence } from "./format.js";
import { work } from "./pauses.js";

const OLD_SECONDS = 60;
const MAX_LAG = 1000;
const MAX_FAILED_SHARE = 0.05;
const FEW = 20;
const COUNTED_LATE_SECONDS = 60;

/** `text`: in parts, of which every second one is code. `starts`: a worker that is started helps. @typedef {{ kind: "bad" | "warn" | "info", text: string[], starts?: boolean, path?: string, query?: Record<string, string>, look?: string }} Finding */

/**
 * What an operator should know now.
 * @param {{ frame: Api.LiveFrame, queue?: Api.QueueState, topics?: Api.TopicList, stats?: Api.StatsAnswer, now: number }} seen
 * @returns {Finding[]}
 */
export function findings({ frame, queue, topics, stats, now }) {
  const found = [
    ...workers(frame), ...paused(queue, now), ...models(frame, queue, now), ...letters(frame), ...age(frame), ...lag(topics), ...failures(frame, now), ...counted(stats, now),
  ];
  const order = ["bad", "warn", "info"];
  return found.sort((a, b) => order.indexOf(a.kind) - order.indexOf(b.kind));
}

/** @param {Api.LiveFrame} frame @returns {Finding[]} */
function workers({ workers: { alive, draining, in_flight: busy, capacity }, runnable, unread }) {
  const waits = [runnable.count && plural(runnable, "request waits", "requests wait"), unread && `${plural(unread, "record is", "records are")} accepted and not read yet`];
  const waiting = waits.filter(Boolean).join(", ") || "new requests wait";
  if (!alive) {
    const where = unread ? { path: "/queue", look: "Queue" } : { path: "/workers", look: "Workers" };
    return [{ kind: "bad", text: [`No worker is alive: ${waiting}. Start one.`], starts: true, ...where }];
  }
  if (draining === alive) {
    return [{ kind: "bad", text: [`Every worker drains: ${waiting}. Let one work again, or start another.`], path: "/workers", look: "Workers" }];
  }
  if (capacity && busy >= capacity) {
    return [{ kind: "warn", text: [`All ${plural(capacity, "slot")} of ${plural(alive - draining, "worker")} are taken: ${waiting}.`], path: "/workers", look: "Workers" }];
  }
  return [];
}

/** @param {Api.LiveFrame} frame @param {Api.QueueState | undefined} queue @param {number} now @returns {Finding[]} */
function models(frame, queue, now) {
  return frame.held_models.map((model) => {
    const held = queue?.held.find((each) => each.model === model);
    const text = held
      ? [`Model ${model} refuses calls (`, held.code ?? "unknown", `${held.detail ? `: ${held.detail}` : ""}); its requests are held back until ${clock(held.until, now)}.`]
      : [`Model ${model} refuses calls.`];
    return { kind: "warn", text, path: "/requests", query: { model, status: "pending" }, look: "Its requests" };
  });
}

/** @param {Api.QueueState | undefined} queue @param {number} now @returns {Finding[]} */
function paused(queue, now) {
  return (queue?.pauses ?? []).map((pause) => {
    const until = pause.until ? `until ${clock(pause.until, now)}` : "until someone resumes it";
    return {
      kind: "warn", text: [`${work(pause.model, "is")} paused ${until}${sentence(pause.reason ? `: ${pause.reason}` : "")}`],
      path: pause.model === null ? "/queue" : "/models", look: pause.model === null ? "Queue" : "Models",
    };
  });
}

/** @param {Api.LiveFrame} frame @returns {Finding[]} */
function letters({ dead_letters: open }) {
  if (!open.count) return [];
  const text = plural(open, "record was refused and was not sent again", "records were refused and were not sent again");
  return [{ kind: "warn", text: [`${text}.`], path: "/dead-letters", look: "Dead letters" }];
}

/** @param {Api.LiveFrame} frame @returns {Finding[]} */
function age({ oldest_seconds: oldest }) {
  if (oldest === null || oldest < OLD_SECONDS) return [];
  return [{ kind: "warn", text: [`The oldest request that could run has waited for ${duration(oldest)}.`], path: "/queue", look: "Queue" }];
}

/** @param {Api.TopicList | undefined} topics @returns {Finding[]} */
function lag(topics) {
  return (topics?.data ?? []).filter((each) => (each.lag ?? 0) > MAX_LAG).map((each) => ({
    kind: "warn", text: [`${plural(each.lag ?? 0, "record")} of ${each.topic} are not read yet.`], path: "/queue", look: "Queue",
  }));
}

/** @param {Api.LiveFrame} frame @param {number} now @returns {Finding[]} */
function failures({ minutes }, now) {
  const failed = minutes.reduce((sum, each) => sum + each.failed, 0);
  const ended = minutes.reduce((sum, each) => sum + each.failed + each.completed, 0);
  if (ended < FEW || failed / ended < MAX_FAILED_SHARE) return [];
  const share = Math.round((failed / ended) * 100);
  const since = clock(minutes[0]?.minute ?? "", now);
  return [{ kind: "bad", text: [`${share} % of the requests that ended since ${since} failed: ${number(failed)} of ${number(ended)}.`], path: "/requests", query: { status: "failed" }, look: "What failed" }];
}

/** @param {Api.StatsAnswer | undefined} stats @param {number} now @returns {Finding[]} */
function counted(stats, now) {
  const behind = stats ? (now - Date.parse(stats.counted_at)) / 1000 : 0;
  if (behind < COUNTED_LATE_SECONDS) return [];
  return [{ kind: "info", text: [`Statistics were last counted ${duration(behind)} ago: workers count them.`] }];
}
