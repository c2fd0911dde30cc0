// The numbers of now, in one row.
import { html } from "../html.js";
import { brief, compact, count, number, plural } from "../format.js";
import { linkIfAny } from "../router.js";
import { Tile } from "./tile.js";

/**
 * @param {{ frame: Api.LiveFrame | undefined, stats: Api.StatsAnswer | undefined }} props
 */
export function Numbers({ frame, stats }) {
  const last = lastMinutes(stats);
  const delayed = frame?.delayed.count ? `${count(frame.delayed)} delayed` : "";
  const { alive, in_flight: busy, capacity } = frame?.workers ?? {};
  const letters = frame?.dead_letters;
  return html`<div class="tiles">
    <${Tile} name="Waiting" value=${count(frame?.runnable)} note=${delayed} href=${linkIfAny("/requests", { status: "pending" })}
      title="Requests that could run now, also those of a model that is paused or refuses calls" />
    <${Tile} name="Oldest waits" value=${frame ? (frame.oldest_seconds === null ? "–" : brief(frame.oldest_seconds)) : "–"}
      tone=${(frame?.oldest_seconds ?? 0) >= 60 ? "warn" : ""} title="For how long the oldest of them has waited" />
    <${Tile} name="Running" value=${count(frame?.in_progress)} note=${capacity ? `of ${plural(capacity, "slot")}` : ""}
      href=${linkIfAny("/requests", { status: "in_progress" })} title="Requests that workers run now" />
    <${Tile} name="Answered" value=${stats ? compact(last?.completed ?? 0) : "–"} unit="/min" note=${last?.failed ? `${number(last.failed)} failed` : stats ? "none failed" : ""}
      href=${linkIfAny("/requests", { status: "completed" })} title="The last whole minute" />
    <${Tile} name="Queue time, p95" value=${brief(last?.queue_seconds.p95)} note=${last ? `median ${brief(last.queue_seconds.p50)}` : ""}
      title="From when a request could first run to its first attempt, in the last whole minute" />
    <${Tile} name="Model time, p95" value=${brief(last?.model_seconds.p95)} note=${last ? `median ${brief(last.model_seconds.p50)}` : ""}
      title="From the first attempt to the end, in the last whole minute" />
    <${Tile} name="Workers" value=${number(alive)} tone=${alive === 0 ? "bad" : ""} note=${alive ? plural(busy ?? 0, "call") : ""}
      href=${linkIfAny("/workers")} title="Workers whose lease is valid" />
    <${Tile} name="Dead letters" value=${count(letters)} tone=${letters?.count ? "warn" : ""} note=${letters?.count ? "not sent again" : ""}
      href=${linkIfAny("/dead-letters")} title="Records that were refused and not sent again" />
  </div>`;
}

/** @param {{ frame: any }} props */
export function OwnNumbers({ frame }) {
  return html`<div class="tiles own">
    <${Tile} name="Open" value=${number(frame?.open)} note="have not ended" href=${linkIfAny("/requests")} title="Your requests that have not ended" />
    <${Tile} name="Parked" value=${number(frame?.parked)} note="their time has not come" title="Those of them whose time has not come" />
    <${Tile} name="Oldest waits" value=${brief(frame?.oldest_seconds)} note="of those that could run" title="For how long the oldest of them that could run has waited" />
  </div>`;
}

/** The last whole minute in which something ended, if it is one of the last three. @param {Api.StatsAnswer | undefined} stats */
function lastMinutes(stats) {
  if (!stats) return undefined;
  const counted = Math.floor(Date.parse(stats.counted_at) / 60_000);
  return stats.data.filter((each) => Date.parse(each.at) / 60_000 < counted && Date.parse(each.at) / 60_000 >= counted - 3).at(-1);
}
