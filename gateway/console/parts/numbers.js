// The numbers of now, in one row.
import { html } from "../html.js";
import { brief, compact, count, minuteOf, number, plural } from "../format.js";
import { linkIfAny } from "../router.js";
import { Tile } from "./tile.js";

/** A note about the last full minute. @param {string | undefined} more */
const lastFull = (more) => html`last full minute${more && html`, <span>${more}</span>`}`;

/**
 * Those of now are from one frame, those of the last full minute from one count.
 * @param {{ frame: Api.LiveFrame | undefined, stats: Api.StatsAnswer | undefined }} props
 */
export function Numbers({ frame, stats }) {
  const last = lastMinute(stats);
  const failed = last?.failed ? `${number(last.failed)} failed` : "none failed";
  const waits = [frame?.unread && `${number(frame.unread)} accepted, not read yet`, frame?.delayed.count && `${count(frame.delayed)} delayed`].filter(Boolean).join("; ");
  const { alive, in_flight: busy, capacity } = frame?.workers ?? {};
  const letters = frame?.dead_letters;
  return html`<div class="tiles">
    <${Tile} name="Waiting" value=${count(frame?.runnable)} note=${waits} href=${linkIfAny("/requests", { status: "pending" })}
      title="Requests that could run now, also those of a model that is paused or refuses calls. What no worker has read is in Kafka only" />
    <${Tile} name="Oldest waits" value=${frame ? (frame.oldest_seconds === null ? "–" : brief(frame.oldest_seconds)) : "–"}
      tone=${(frame?.oldest_seconds ?? 0) >= 60 ? "warn" : ""} title="For how long the oldest of them has waited" />
    <${Tile} name="Running" value=${count(frame?.in_progress)} note=${capacity ? `of ${plural(capacity, "slot")}` : ""}
      href=${linkIfAny("/requests", { status: "in_progress" })} title="Requests that workers run now" />
    <${Tile} name="Answered" value=${stats ? compact(last?.completed ?? 0) : "–"} unit="/min" note=${stats && lastFull(failed)}
      href=${linkIfAny("/requests", { status: "completed" })} title="Requests that were answered in the last full minute that is counted" />
    <${Tile} name="Queue time, p95" value=${brief(last?.queue_seconds.p95)} note=${stats && lastFull(last && `median ${brief(last.queue_seconds.p50)}`)}
      title="From when a request could first run to its first attempt, of those that ended in the last full minute" />
    <${Tile} name="Model time, p95" value=${brief(last?.model_seconds.p95)} note=${stats && lastFull(last && `median ${brief(last.model_seconds.p50)}`)}
      title="From the first attempt to the end, of those that ended in the last full minute" />
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

/** What ended in the last full minute that is counted; undefined: nothing did. @param {Api.StatsAnswer | undefined} stats */
const lastMinute = (stats) => stats?.data.find((each) => minuteOf(each.at) === minuteOf(stats.counted_at) - 1);
