// One conversation: its messages and requests as turns, and the stream of those that are open.
import { signal } from "@preact/signals";
import { address, asProblem, get } from "./api.js";
import { isOpen } from "./list.js";
import { answered, ENDINGS, NAMES, NOTHING } from "./stream.js";

const PAGE = 100;
const MAX_PAGES = 10;

/** @typedef {{ id: string | null, at: string, request: any, messages: any[], answer: import("./stream.js").Answer | undefined }} Turn
 *   `id`: of its request; null: messages that came without one. `answer`: what the stream has brought of it */

/** Follow one conversation. Its signals are those of the page that shows it. */
export class Talk {
  /** @param {string} id */
  constructor(id) {
    this.id = id;
    this.about = signal(/** @type {any} */ (undefined));
    this.problem = signal(/** @type {import("./api.js").Problem | undefined} */ (undefined));
    this.messages = signal(/** @type {any[]} */ ([]));
    this.requests = signal(/** @type {any[]} */ ([]));
    this.answers = signal(/** @type {Map<string, import("./stream.js").Answer>} */ (new Map()));
    this.state = signal(/** @type {"closed" | "open" | "lost" | "deleted"} */ ("closed"));
    this.more = signal(false);
    /** @type {EventSource | undefined} */
    this.source = undefined;
    this.over = false;
    this.again = false;
    this.reading = false;
  }

  /** Read it, then follow what is open and what comes. */
  async start() {
    await this.read();
    if (!this.over && !this.problem.value) this.open();
  }

  stop() {
    this.over = true;
    this.source?.close();
  }

  /** Read everything that is stored; once more if something changed meanwhile. */
  async read() {
    if (this.reading) {
      this.again = true;
      return;
    }
    this.reading = true;
    try {
      do {
        this.again = false;
        await this.readOnce();
      } while (this.again && !this.over);
      this.problem.value = undefined;
    } catch (error) {
      this.problem.value = asProblem(error);
    } finally {
      this.reading = false;
    }
  }

  async readOnce() {
    const path = { conversation_id: this.id };
    const about = await get("/v1/conversations/{conversation_id}", { path });
    const requests = await get("/v1/requests", { query: { conversation_id: this.id, limit: PAGE } });
    const messages = [];
    let cursor;
    for (let pages = 0; pages < MAX_PAGES && (pages === 0 || cursor); pages += 1) {
      const page = await get("/v1/conversations/{conversation_id}/messages", { path, query: { limit: PAGE, cursor } });
      messages.push(...page.data);
      cursor = page.next;
    }
    this.more.value = !!cursor || !!requests.next;
    this.messages.value = messages;
    this.requests.value = requests.data;
    this.about.value = about;
  }

  /** Open the stream behind the last turn that had ended before the first open one. */
  open() {
    const oldest = [...this.requests.value].reverse();
    const first = oldest.findIndex(isOpen);
    const behind = oldest[(first < 0 ? oldest.length : first) - 1];
    const source = new EventSource(address("/v1/conversations/{conversation_id}/events", { conversation_id: this.id }, { last_event_id: behind?.id }));
    this.source = source;
    for (const name of NAMES) source.addEventListener(name, (event) => this.take(name, JSON.parse(event.data || "{}")));
    source.addEventListener("deleted", () => {
      this.state.value = "deleted";
      source.close();
    });
    source.addEventListener("open", () => (this.state.value = "open"));
    source.addEventListener("error", () => {
      if (this.state.value !== "deleted") this.state.value = source.readyState === EventSource.CLOSED ? "closed" : "lost";
    });
  }

  /** @param {string} name @param {any} data */
  take(name, data) {
    const id = data.request_id;
    if (!id) return;
    this.answers.value = new Map(this.answers.value).set(id, answered(this.answers.value.get(id) ?? NOTHING, name, data));
    if (ENDINGS.has(name) || name === "started" || !this.requests.value.some((each) => each.id === id)) void this.read();
  }
}

/**
 * The turns, oldest first.
 * @param {any[]} messages oldest first
 * @param {any[]} requests newest first
 * @param {Map<string, import("./stream.js").Answer>} answers
 * @returns {Turn[]}
 */
export function turnsOf(messages, requests, answers) {
  /** @type {Map<string, Turn>} */
  const turns = new Map();
  for (const request of [...requests].reverse()) {
    turns.set(request.id, { id: request.id, at: request.created_at ?? "", request, messages: [], answer: answers.get(request.id) });
  }
  for (const message of messages) {
    const key = message.request_id ?? `message ${message.id}`;
    const turn = turns.get(key);
    if (turn) turn.messages.push(message);
    else turns.set(key, { id: message.request_id, at: message.created_at, request: undefined, messages: [message], answer: undefined });
  }
  return [...turns.values()].sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0));
}
