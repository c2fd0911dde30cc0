// What happens now: GET /v1/live, one connection for the whole console, closed while the tab is hidden.
import { useEffect, useRef } from "preact/hooks";
import { effect, signal } from "@preact/signals";
import { address, skew } from "./api.js";
import { ask, state as session } from "./session.js";

const MAX_IDS = 100;
const LATE_MS = 5000;
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 15000;

/** The last frame. A user's frame has their own counts only. @type {import("@preact/signals").Signal<any>} */
export const frame = signal(null);

/** @type {import("@preact/signals").Signal<"connecting" | "live" | "late" | "lost" | "frozen">} */
export const connection = signal("connecting");

/** When the state of the connection last changed, and when the last frame came, in milliseconds of this machine. */
export const since = signal(Date.now());
export const received = signal(0);

/** Ids of requests that changed, by the last event `changed`. @type {import("@preact/signals").Signal<string[]>} */
export const changed = signal([]);

/** Moves once a second while the tab is visible: what shows an age reads it. In milliseconds of the server. */
export const now = signal(Date.now());

/** Whether the viewer froze the console: its numbers and lists stay as they are. */
export const frozen = signal(false);

/** @type {import("@preact/signals").Signal<string>} */
const watched = signal("");
const visible = signal(document.visibilityState !== "hidden");
const round = signal(0);
let pause = FIRST_PAUSE_MS;

/**
 * Name the requests on the page: `changed` has those of them that changed.
 * @param {string[]} ids
 */
export function watch(ids) {
  const next = ids.slice(0, MAX_IDS).sort().join();
  if (next !== watched.value) watched.value = next;
}

/**
 * Do something every few seconds, while the tab is visible and the console is not frozen.
 * @param {number} seconds
 * @param {() => void} run
 */
export function useEvery(seconds, run) {
  const latest = useRef(run);
  latest.current = run;
  useEffect(() => {
    let due = Date.now() + seconds * 1000;
    return now.subscribe(() => {
      if (frozen.peek() || Date.now() < due) return;
      due = Date.now() + seconds * 1000;
      latest.current();
    });
  }, [seconds]);
}

export function start() {
  document.addEventListener("visibilitychange", () => {
    visible.value = document.visibilityState !== "hidden";
  });
  setInterval(tick, 1000);
  effect(() => {
    void round.value;
    if (session.value !== "signed_in" || !visible.value) return;
    if (frozen.value) {
      become("frozen");
      return;
    }
    return open(watched.value);
  });
}

/**
 * Open a connection; what is returned closes it.
 * @param {string} ids
 */
function open(ids) {
  const source = new EventSource(address("/v1/live", {}, { ids }));
  // The frame that was under way for the shortest time tells the server's clock best.
  let ahead = -Infinity;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let again;
  source.addEventListener("frame", (event) => {
    frame.value = JSON.parse(event.data);
    received.value = Date.now();
    ahead = Math.max(ahead, Date.parse(frame.value.at) - received.value);
    skew.value = ahead;
    pause = FIRST_PAUSE_MS;
    become("live");
  });
  source.addEventListener("changed", (event) => {
    changed.value = JSON.parse(event.data).ids;
  });
  source.addEventListener("error", () => {
    become("lost");
    if (source.readyState !== EventSource.CLOSED) return; // It connects again by itself.
    pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
    again = setTimeout(() => {
      round.value += 1;
      void ask();
    }, pause);
  });
  return () => {
    clearTimeout(again);
    source.close();
  };
}

/** @param {typeof connection.value} next */
function become(next) {
  if (connection.peek() === next) return;
  connection.value = next;
  since.value = next === "lost" && received.peek() ? received.peek() : Date.now();
}

function tick() {
  if (!visible.peek()) return;
  now.value = Date.now() + skew.peek();
  if (connection.peek() === "live" && Date.now() - received.peek() > LATE_MS) become("late");
}
