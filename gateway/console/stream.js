// The events of one request, as any client receives them, from the beginning or from a chosen one.
import { signal } from "@preact/signals";
import { address } from "./api.js";

/** Names of events of a request. */
export const NAMES = "pending started delta tool_call tool_call.delta reasoning.delta refusal.delta restart completed failed cancelled expired".split(" ");
export const ENDINGS = new Set(["completed", "failed", "cancelled", "expired"]);
const MAX_KEPT = 400;

/** @typedef {{ id: string, name: string, at: number, count: number, data: any }} Event  `count`: how many deltas are joined in it */
/** @typedef {{ text: string, reasoning: string, calls: { name: string, arguments: string }[], attempt: number }} Answer */

/** The answer before its first event. @type {Answer} */
export const NOTHING = { text: "", reasoning: "", calls: [], attempt: 0 };

/** Follow one request. Its signals are those of the page that shows it. */
export class Stream {
  /** @param {string} request */
  constructor(request) {
    this.request = request;
    this.events = signal(/** @type {Event[]} */ ([]));
    this.answer = signal(/** @type {Answer} */ (NOTHING));
    this.state = signal(/** @type {"open" | "ended" | "lost" | "closed"} */ ("closed"));
    this.from = signal("");
    /** @type {EventSource | undefined} */
    this.source = undefined;
  }

  /** Open it, or open it again behind an event. @param {string} [last] id of that event; empty: from the beginning */
  open(last = "") {
    this.close();
    this.events.value = [];
    this.answer.value = NOTHING;
    this.from.value = last;
    this.state.value = "open";
    const source = new EventSource(address("/v1/requests/{request_id}/events", { request_id: this.request }, { last_event_id: last }));
    this.source = source;
    for (const name of NAMES) source.addEventListener(name, (event) => this.take(name, event));
    source.addEventListener("error", () => {
      if (this.source !== source) return;
      // After the ending the server answers 204, and a browser gives up.
      this.state.value = source.readyState === EventSource.CLOSED ? "ended" : "lost";
    });
    source.addEventListener("open", () => {
      this.state.value = "open";
    });
  }

  close() {
    this.source?.close();
    this.source = undefined;
    if (this.state.value !== "ended") this.state.value = "closed";
  }

  /** @param {string} name @param {MessageEvent} event */
  take(name, event) {
    const data = event.data ? JSON.parse(event.data) : {};
    this.answer.value = answered(this.answer.value, name, data);
    this.events.value = noted(this.events.value, { id: event.lastEventId, name, at: Date.now(), count: 1, data });
    if (!ENDINGS.has(name)) return;
    this.state.value = "ended";
    this.close();
  }
}

/** The answer after one more event. @param {Answer} before @param {string} name @param {any} data @returns {Answer} */
export function answered(before, name, data) {
  const calls = before.calls;
  switch (name) {
    case "started": return { ...before, attempt: data.attempt };
    case "restart": return { ...NOTHING, text: data.text ?? "", attempt: data.attempt };
    case "delta":
    case "refusal.delta": return { ...before, text: before.text + data.text };
    case "reasoning.delta": return { ...before, reasoning: before.reasoning + data.text };
    case "tool_call": return { ...before, calls: [...calls, { name: data.name, arguments: "" }] };
    case "tool_call.delta":
      return { ...before, calls: calls.map((call, index) => (index === data.index ? { ...call, arguments: call.arguments + data.arguments } : call)) };
    case "completed": return { ...before, text: data.reply ?? before.text };
    default: return before;
  }
}

/** The events after one more: pieces of the same kind that follow each other are one row. @param {Event[]} before @param {Event} event */
function noted(before, event) {
  const last = before.at(-1);
  if (!last || last.name !== event.name || !event.name.endsWith("delta")) return [...before, event].slice(-MAX_KEPT);
  const joined = { ...event, count: last.count + 1, data: { text: `${last.data.text ?? last.data.arguments ?? ""}${event.data.text ?? event.data.arguments ?? ""}` } };
  return [...before.slice(0, -1), joined];
}
