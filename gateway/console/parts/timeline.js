// What happened, on one axis of time. Only what is known is drawn: an attempt whose beginning was not kept has no beginning.
import { html } from "../html.js";
import { between, clock, duration, utc } from "../format.js";
import { acceptedAt, hasRow, isOpen } from "../list.js";
import { now } from "../live.js";
import { Panel } from "./panel.js";
import { Sign } from "./sign.js";

/** @typedef {{ name: string, from: number, to: number, kind: string, text: any, sign?: string, since?: boolean }} Span
 *   in milliseconds; `since`: it began at some time after `from` */

/** @type {Record<string, string>} */
const KINDS = { in_progress: "running", completed: "completed", failed: "failed" };

/** @param {{ request: Api.RequestDetail }} props */
export function Timeline({ request }) {
  const spans = spansOf(request, now.value);
  const first = spans[0];
  if (!first || !hasRow(request)) return html`<${Panel} title="What happened"><p class="dim">${isOpen(request) ? "It was accepted. No worker has read its record yet." : "Its record was refused, so there was no attempt."}</p></${Panel}>`;
  const start = first.from;
  const end = Math.max(...spans.map((span) => span.to), start + 1);
  const at = (/** @type {number} */ moment) => ((moment - start) / (end - start)) * 100;
  const whole = between(acceptedAt(request), request.finished_at ?? new Date(now.value).toISOString());
  return html`<${Panel} title="What happened" note=${`${duration(whole)} ${request.finished_at ? "from acceptance to ending" : "so far"}`}>
    <ol class="timeline">${spans.map((span) => html`<li key=${span.name}>
      <span class="name">${span.name}</span>
      <span class="track" aria-hidden="true"><i class=${`span span-${span.kind} ${span.since ? "since" : ""}`} style=${{ left: `${at(span.from)}%`, width: `${Math.max(0, at(span.to) - at(span.from))}%` }}></i></span>
      <span class="text">${span.sign && html`<${Sign} name=${span.sign} tone=${span.sign} />`}<span>${span.text}</span></span>
    </li>`)}</ol>
    <div class="axis" aria-hidden="true"><span title=${utc(new Date(start).toISOString())}>${clock(new Date(start).toISOString(), now.value)}</span>
      <span>${duration((end - start) / 2000)}</span><span>${duration((end - start) / 1000)}</span></div>
  </${Panel}>`;
}

/** @param {Api.RequestDetail} request @param {number} now @returns {Span[]} */
function spansOf(request, now) {
  const accepted = acceptedAt(request);
  if (!accepted) return [];
  const from = Date.parse(accepted);
  const over = request.finished_at ? Date.parse(request.finished_at) : now;
  const began = request.started_at ? Date.parse(request.started_at) : over;
  /** @type {Span[]} */
  const spans = [{ name: "waited", from, to: began, kind: "wait", text: `${duration((began - from) / 1000)} until ${request.started_at ? "its first attempt" : isOpen(request) ? "now" : "its end"}` }];
  let last = began;
  for (const [index, error] of (request.errors ?? []).entries()) {
    const at = Date.parse(error.at);
    const wait = index ? "back-off, then the attempt, " : "";
    spans.push({
      name: `attempt ${error.attempt}`, from: last, to: at, kind: "failed", since: index > 0, sign: "failed",
      text: html`<code>${error.code}</code> ${error.detail} <span class="dim">${wait}${duration((at - last) / 1000)}</span>`,
    });
    last = at;
  }
  if (!request.started_at) return ended(spans, request, over);
  const failedLast = request.errors?.at(-1)?.attempt === request.attempts;
  if (request.status === "pending") {
    const until = request.runnable_at && Date.parse(request.runnable_at) > now ? `; the next attempt not before ${clock(request.runnable_at, now)}` : "";
    spans.push({ name: "waits", from: last, to: over, kind: "wait", text: `${duration((over - last) / 1000)} so far${until}` });
  } else if (!failedLast && last < over) {
    const kind = KINDS[request.status] ?? "ended";
    const took = `${request.errors?.length ? "back-off, then the attempt, " : ""}${duration((over - last) / 1000)}${isOpen(request) ? " so far" : ""}`;
    spans.push({ name: `attempt ${request.attempts ?? 1}`, from: last, to: over, kind, since: !!request.errors?.length, sign: request.status, text: html`${request.status.replace("_", " ")} <span class="dim">${took}</span>` });
  }
  return ended(spans, request, over);
}

/** @param {Span[]} spans @param {Api.RequestDetail} request @param {number} over */
function ended(spans, request, over) {
  const shown = spans.at(-1)?.sign === request.status;
  if (isOpen(request) || shown) return spans;
  const passed = request.status === "expired" && request.deadline && `its deadline, ${clock(request.deadline, over)}, passed before it was answered`;
  const why = request.error ? html`<code>${request.error.code}</code> ${request.error.detail}` : passed || request.status;
  return [...spans, { name: request.status, from: over, to: over, kind: "ended", sign: request.status, text: why }];
}
