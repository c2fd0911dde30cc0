// One request of the playground, followed event by event. A reload of the page goes on behind the last of them.
import { signal } from "@preact/signals";
import { address } from "./api.js";
import { answered, ENDINGS, NAMES, NOTHING } from "./stream.js";

const NAME = "orchestra.playground.";
const KEEP_MS = 1000;
const MAX_EVENTS = 3000;

/** @typedef {{ id: string, name: string, data: string, at: number }} Raw */
/** @typedef {{ id: string, body: Record<string, any>, sentAt: number, answer: import("./stream.js").Answer, events: Raw[], dropped: number,
 *    last: string, resumed: string[], ended: boolean }} Kept */

export class Run {
  /** @param {Kept} kept */
  constructor(kept) {
    this.kept = signal(kept);
    this.state = signal(/** @type {"open" | "ended" | "lost" | "gone" | "closed"} */ (kept.ended ? "ended" : "closed"));
    /** @type {EventSource | undefined} */
    this.source = undefined;
    this.saved = 0;
    this.save = this.save.bind(this);
  }

  /** A run that has just been sent. @param {string} id @param {Record<string, any>} body @param {number} sentAt */
  static sent(id, body, sentAt) {
    return new Run({ id, body, sentAt, answer: NOTHING, events: [], dropped: 0, last: "", resumed: [], ended: false });
  }

  /** The run that this tab has kept; null: it has none. @param {string} id */
  static kept(id) {
    try {
      const text = sessionStorage.getItem(NAME + id);
      return text ? new Run(JSON.parse(text)) : null;
    } catch {
      return null;
    }
  }

  /** Follow it from where it was left. */
  open() {
    const { id, last, ended, resumed } = this.kept.value;
    if (ended) return;
    if (last) this.kept.value = { ...this.kept.value, resumed: [...resumed, last] };
    addEventListener("pagehide", this.save);
    const source = new EventSource(address("/v1/requests/{request_id}/events", { request_id: id }, { last_event_id: last }));
    this.source = source;
    this.state.value = "open";
    for (const name of NAMES) source.addEventListener(name, (event) => this.take(name, event));
    source.addEventListener("open", () => (this.state.value = "open"));
    source.addEventListener("error", () => {
      if (this.source === source && this.state.value !== "ended") this.state.value = source.readyState === EventSource.CLOSED ? "gone" : "lost";
    });
  }

  close() {
    this.save();
    removeEventListener("pagehide", this.save);
    this.source?.close();
    this.source = undefined;
  }

  /** @param {string} name @param {MessageEvent} event */
  take(name, event) {
    const before = this.kept.value;
    const ended = ENDINGS.has(name);
    const events = [...before.events, { id: event.lastEventId, name, data: event.data ?? "", at: Date.now() }];
    const dropped = Math.max(0, events.length - MAX_EVENTS);
    this.kept.value = {
      ...before, ended, last: event.lastEventId || before.last, answer: answered(before.answer, name, JSON.parse(event.data || "{}")),
      events: events.slice(dropped), dropped: before.dropped + dropped,
    };
    if (ended) {
      this.state.value = "ended";
      this.close();
    } else if (Date.now() - this.saved > KEEP_MS) this.save();
  }

  save() {
    this.saved = Date.now();
    try {
      sessionStorage.setItem(NAME + this.kept.value.id, JSON.stringify(this.kept.value));
    } catch {
      // A browser that keeps nothing starts from the beginning after a reload.
    }
  }
}

/** The events as they came over the wire. @param {Kept} kept */
export const wire = (kept) => kept.events.map(({ id, name, data }) => `${id && `id: ${id}\n`}event: ${name}\ndata: ${data}\n`).join("\n");
