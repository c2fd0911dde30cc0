// A list of requests that stays where it is: known rows change in place, newer ones are only counted until asked for.
import { useEffect, useRef, useState } from "preact/hooks";
import { asProblem, get } from "./api.js";
import { changed, useEvery, watch } from "./live.js";
import { may, session } from "./session.js";

const SECONDS = 2;
const MAX_IDS = 100;

/** @typedef {Api.RequestResource} Row */
/** @typedef {{ rows: Row[], newer: number, newest: string | null, next: string | null, searchedTo?: string | undefined,
 *    problem?: import("./api.js").Problem, loading: boolean }} List */

/**
 * @param {Record<string, string>} filter
 * @param {string} cursor empty: the newest
 * @param {number} limit
 */
export function useList(filter, cursor, limit) {
  const [list, set] = useState(/** @type {List} */ ({ rows: [], newer: 0, newest: null, next: null, loading: true }));
  const [round, again] = useState(0);
  const latest = useRef(list);
  latest.current = list;
  const key = JSON.stringify([filter, cursor, limit]);

  useEffect(() => {
    const abort = new AbortController();
    set((before) => ({ ...before, loading: true }));
    get("/v1/requests", { query: { ...filter, cursor, limit }, abort: abort.signal }).then(
      (page) => abort.signal.aborted || set(listOf(page)),
      (error) => abort.signal.aborted || set((before) => ({ ...before, problem: asProblem(error), loading: false })),
    );
    return () => abort.abort();
  }, [key, round]);

  useEffect(() => watch(list.rows.map((row) => row.id)), [list.rows]);
  useEffect(() => () => watch([]), []);

  const busy = useRef(false);
  /** @param {(list: List) => Promise<Partial<List>>} look */
  const change = async (look) => {
    const before = latest.current;
    if (busy.current || before.loading || before.problem) return;
    busy.current = true;
    try {
      const found = await look(before);
      if (latest.current.rows === before.rows) set((list) => ({ ...list, ...found }));
    } catch {
      // The state of the connection is shown; the rows stay as they were.
    } finally {
      busy.current = false;
    }
  };
  useEvery(SECONDS, () => {
    if (!cursor) void change((before) => newer(filter, before, limit));
  });
  useEffect(() => changed.subscribe((ids) => void (ids.length && change((before) => fresh(before, ids)))), [key]);
  return { ...list, reload: () => again((n) => n + 1) };
}

/** @param {Api.RequestPage} page @returns {List} */
const listOf = (page) => ({ rows: page.data, newer: 0, newest: page.newest ?? null, next: page.next ?? null, searchedTo: page.searched_to ?? undefined, loading: false });

/** How many came since. @param {Record<string, string>} filter @param {List} list @param {number} limit @returns {Promise<Partial<List>>} */
async function newer(filter, list, limit) {
  if (list.newer >= limit) return {};
  const page = await get("/v1/requests", { query: { ...filter, newer_than: list.newest, limit } });
  return list.newest || !page.data.length ? { newer: page.data.length } : listOf(page);
}

/** The rows, those that changed as they are now. @param {List} list @param {string[]} ids @returns {Promise<Partial<List>>} */
async function fresh(list, ids) {
  const page = await get("/v1/requests", { query: { id: ids.slice(0, MAX_IDS), limit: MAX_IDS } });
  const found = new Map(page.data.map((/** @type {Row} */ row) => [row.id, row]));
  return { rows: list.rows.map((row) => found.get(row.id) ?? row) };
}

/** Whether a worker has read its record; of a request without a row only its id, its state and its error are known. @param {{ attempts?: number | null | undefined }} request */
export const hasRow = ({ attempts }) => attempts !== null && attempts !== undefined;

/** When a request was accepted, which is before a worker read it and created its row, where its record says so. @param {Api.RequestDetail & { accepted_at?: string | null }} request */
export const acceptedAt = (request) => request.accepted_at ?? request.created_at;

/** Whether the caller may read what is said in a request: operators see those of every owner, without the texts of others. @param {Api.RequestDetail} request */
export const isReadable = (request) => may("admin") || !may("operate") || !hasRow(request) || (request.owner ?? "") === session.value?.caller?.owner;

/** @param {{ status: string }} request */
export const isOpen = ({ status }) => status === "pending" || status === "in_progress";
