// Why a request waits, about how long, and what is in order.
import { html } from "../html.js";
import { get, useLoaded } from "../api.js";
import { clock, duration, number, plural, relative, sentence, short } from "../format.js";
import { now, useEvery } from "../live.js";
import { link, linkIfAny } from "../router.js";
import { Loaded, Panel } from "./panel.js";
import { Sign } from "./sign.js";
import { StartWorker } from "./startworker.js";

const SECONDS = 2;
/** Reasons that end by themselves; the others need someone. */
const QUIET = new Set(["behind_in_conversation", "not_before", "backing_off", "no_free_slot", "not_read_yet", "cancelling"]);
/** Where one looks next. @type {Record<string, [string, string]>} */
const LOOK = { no_worker: ["/workers", "Workers"], model_held_back: ["/models", "Models"], model_paused: ["/models", "Models"], tenant_paused: ["/queue", "Queue"], no_free_slot: ["/queue", "Queue"] };

/** @param {{ request: Api.RequestDetail }} props */
export function Waiting({ request }) {
  const id = request.id;
  const waiting = useLoaded((abort) => get("/v1/requests/{request_id}/waiting", { path: { request_id: id }, abort }), [id, request.status]);
  useEvery(SECONDS, waiting.reload);
  if (request.status === "in_progress" && !waiting.data?.reasons.length) return null;
  return html`<${Panel} title="Why it waits" note=${waiting.data && about(waiting.data)} class="waits"><${Loaded} of=${waiting}>${(/** @type {Api.WaitingState} */ data) => html`
    <ol class="reasons">
      ${data.reasons?.map((each) => html`<${Reason} key=${each.code} of=${each} />`)}
      ${data.position !== null && html`<li><${Sign} name="pending" tone="pending" /><p><b>${ordinal(data.position ?? 0)} in line</b>${ahead(data.ahead)}.</p></li>`}
      ${!data.reasons?.length && data.position === null && html`<li><${Sign} name="ok" tone="ok" /><p>Nothing holds it back: a worker takes it next.</p></li>`}
    </ol>`}</${Loaded}></${Panel}>`;
}

/** @param {{ of: Api.Reason }} props */
function Reason({ of }) {
  const quiet = QUIET.has(of.code);
  const look = LOOK[of.code];
  const href = of.request_id ? link(`/requests/${of.request_id}`) : look && linkIfAny(look[0]);
  return html`<li><${Sign} name=${quiet ? "pending" : "warn"} tone=${quiet ? "pending" : "bad"} />
    <p>${sentence(of.detail)}${of.until && html` <span class="dim">Until ${clock(of.until, now.value)} (${relative(of.until, now.value)}).</span>`}
      ${of.code === "no_worker" && html` <${StartWorker} />`} <code class="dim">${of.code}</code>
      ${href && html` <a href=${href}>${of.request_id ? `Request ${short(of.request_id)}` : look?.[1]}</a>`}</p></li>`;
}

/** @param {Api.WaitingState} state */
const about = ({ estimate_seconds: seconds }) => (seconds === null || seconds === undefined ? "how long is not known" : `about ${duration(Math.round(seconds))} more`);

/** @param {Api.Ahead | null | undefined} ahead */
function ahead(ahead) {
  if (!ahead) return "";
  const parts = [
    ahead.urgent && `${number(ahead.urgent)} of a higher priority`, ahead.same && `${number(ahead.same)} of its priority that waited longer`,
    ahead.older && `${plural(ahead.older, "older one")} of a lower`,
  ].filter(Boolean);
  return parts.length ? `: ${parts.join(", ")} may go first${ahead.more ? ", perhaps more" : ""}` : "";
}

/** @param {number} value */
function ordinal(value) {
  const last = value % 100 >= 11 && value % 100 <= 13 ? 0 : value % 10;
  return `${number(value)}${["th", "st", "nd", "rd"][last] ?? "th"}`;
}
