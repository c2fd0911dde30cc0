// Acting on many requests: first a dry run that counts, then the same call for real, a thousand at a time.
import { post } from "./api.js";
import { number } from "./format.js";

/** @typedef {"cancel" | "retry" | "change"} Verb */
/** @typedef {{ ids: string[] } | { filter: Record<string, string | number> }} Selection */
/** @typedef {{ done: number, matched: number, more: boolean, skipped: Map<string, number>, scope?: "own" | "tenant" | null }} Outcome  `scope`: whose requests were selected from */

const PATHS = { cancel: "/v1/requests/cancel", retry: "/v1/requests/retry", change: "/v1/requests/change" };
const NUMBERS = new Set(["priority", "attempts_min", "waited_min"]);

/** Words for the reasons that are not words yet, for one request and for many. @type {Record<string, string>} */
const REASONS = {
  ended: "ended before", in_progress: "running", cancelling: "being cancelled already", unchanged: "unchanged by it", not_ended: "still open",
  completed: "answered", retried: "retried before", is_retry: "made by a retry", not_kept: "without its messages", not_before_deadline: "to begin after its deadline",
};

/** The filter of an address as the body of a call has it. @param {Record<string, string>} filter */
export const selectionOf = (filter) => ({
  filter: Object.fromEntries(Object.entries(filter).map(([name, value]) => [name, NUMBERS.has(name) ? Number(value) : value])),
});

/**
 * What a call would do: its first thousand are counted.
 * @param {Verb} verb
 * @param {Selection} selection
 * @param {object} more
 * @returns {Promise<Outcome>}
 */
export const tried = (verb, selection, more = {}) => once(verb, { ...selection, ...more, dry_run: true });

/**
 * Do it, to the end.
 * @param {Verb} verb
 * @param {Selection} selection
 * @param {object} more
 * @param {(soFar: Outcome) => void} told
 * @returns {Promise<Outcome>}
 */
export async function done(verb, selection, more = {}, told = () => {}) {
  /** @type {Outcome} */
  const sum = { done: 0, matched: 0, more: true, skipped: new Map() };
  let cursor;
  do {
    const part = await once(verb, { ...selection, ...more, ...(cursor ? { cursor } : {}) });
    sum.done += part.done;
    sum.matched += part.matched;
    for (const [code, count] of part.skipped) sum.skipped.set(code, (sum.skipped.get(code) ?? 0) + count);
    told({ ...sum });
    cursor = part.next;
  } while (cursor);
  return { ...sum, more: false };
}

/** @param {Verb} verb @param {object} body @returns {Promise<Outcome & { next?: string }>} */
async function once(verb, body) {
  const answer = await post(PATHS[verb], { body });
  return { ...answer, skipped: new Map(answer.skipped.map((/** @type {any} */ each) => [each.code, each.count])) };
}

/** Why some were left alone, in words. @param {Outcome} outcome */
export const skippedIn = ({ skipped }) => [...skipped].map(([code, count]) => `${number(count)} ${REASONS[code] ?? code.replaceAll("_", " ")}`).join(", ");
