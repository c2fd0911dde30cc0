// Dead letters as a list that stays where it is: known rows change in place, newer ones are counted until asked for.
import { useEffect, useRef, useState } from "preact/hooks";
import { asProblem, get } from "./api.js";
import { useEvery } from "./live.js";

const SECONDS = 5;

/** The filters, as GET /v1/dead-letters has them. */
const FILTERS = /** @type {const} */ (["reason", "topic", "created_after", "created_before", "replayed"]);

/** @typedef {{ rows: Api.DeadLetterSummary[], newer: number, next: string | null, searchedTo?: string | null | undefined, problem?: import("./api.js").Problem, loading: boolean }} Letters */

/** @param {URLSearchParams} query @returns {Record<string, string>} */
export const filterOf = (query) => Object.fromEntries(FILTERS.flatMap((name) => (query.get(name) ? [[name, query.get(name) ?? ""]] : [])));

/**
 * @param {Record<string, string>} filter
 * @param {string} cursor empty: the newest
 * @param {number} limit
 */
export function useLetters(filter, cursor, limit) {
  const [list, set] = useState(/** @type {Letters} */ ({ rows: [], newer: 0, next: null, loading: true }));
  const [round, again] = useState(0);
  const latest = useRef(list);
  latest.current = list;
  useEffect(() => {
    const abort = new AbortController();
    set((before) => ({ ...before, loading: true }));
    get("/v1/dead-letters", { query: { ...filter, cursor, limit }, abort: abort.signal }).then(
      (page) => abort.signal.aborted || set({ rows: page.data, newer: 0, next: page.next ?? null, searchedTo: page.searched_to, loading: false }),
      (error) => abort.signal.aborted || set((before) => ({ ...before, problem: asProblem(error), loading: false })),
    );
    return () => abort.abort();
  }, [JSON.stringify([filter, cursor, limit]), round]);
  useEvery(SECONDS, async () => {
    const before = latest.current;
    if (before.loading || before.problem) return;
    try {
      const page = await get("/v1/dead-letters", { query: { ...filter, cursor, limit } });
      if (latest.current.rows === before.rows) set((now) => ({ ...now, ...merged(before, page.data) }));
    } catch {
      // The state of the connection is shown; the rows stay as they were.
    }
  });
  return { ...list, reload: () => again((n) => n + 1) };
}

/** @param {Letters} before @param {Api.DeadLetterSummary[]} found @returns {Partial<Letters>} */
function merged(before, found) {
  const top = before.rows[0]?.id ?? 0;
  const fresh = new Map(found.map((each) => [each.id, each]));
  return { rows: before.rows.map((row) => fresh.get(row.id) ?? row), newer: found.filter((each) => each.id > top).length };
}
