// Calls of the public API. Nothing else in the console calls it, but for the event streams in live.js, stream.js, run.js and talk.js.
import { useEffect, useState } from "preact/hooks";
import { signal } from "@preact/signals";

/** How far the server's clock is ahead of this machine's, in milliseconds. */
export const skew = signal(0);

/** How often a call was refused because its session is not valid. */
export const refused = signal(0);

/** An error of a call, by the problem document. `code` is `unreachable` where no answer came. */
export class Problem extends Error {
  /**
   * @param {number} status
   * @param {string} code
   * @param {string} title
   * @param {string} detail
   */
  constructor(status, code, title, detail) {
    super(detail || title);
    this.status = status;
    this.code = code;
    this.title = title;
    this.detail = detail;
  }
}

/** @typedef {string | number | boolean | null | undefined | string[]} Value */
/** @typedef {{ path?: Record<string, string | number>, query?: Record<string, Value>, body?: unknown,
 *    form?: Record<string, string>, headers?: Record<string, string>, abort?: AbortSignal | undefined }} Options */

/**
 * Call the API, and read its JSON. Raises `Problem`.
 * @param {string} method
 * @param {string} path as in the OpenAPI document, with its `{names}`
 * @param {Options} [options]
 * @returns {Promise<any>} null for an answer without a body
 */
export async function call(method, path, { path: parts = {}, query = {}, body, form, headers = {}, abort } = {}) {
  const sent = body === undefined ? headers : { ...headers, "Content-Type": "application/json" };
  const text = form ? new URLSearchParams(form) : body === undefined ? null : JSON.stringify(body);
  let response;
  try {
    response = await fetch(address(path, parts, query), {
      method, headers: sent, body: text, signal: abort ?? null, cache: "no-store", credentials: "same-origin",
    });
  } catch (error) {
    if (abort?.aborted) throw error;
    throw new Problem(0, "unreachable", "The gateway does not answer", "");
  }
  const read = await response.text();
  const json = /\bjson\b/.test(response.headers.get("Content-Type") ?? "");
  const answer = json && read ? JSON.parse(read) : null;
  if (response.ok) return answer;
  if (response.status === 401) refused.value += 1;
  throw new Problem(response.status, answer?.code ?? "unknown", answer?.title ?? response.statusText, answer?.detail ?? "");
}

/**
 * @param {string} path
 * @param {Options} [options]
 */
export const get = (path, options) => call("GET", path, options);

/**
 * @param {string} path
 * @param {Options} [options]
 */
export const post = (path, options) => call("POST", path, options);

/**
 * The address of a call.
 * @param {string} path
 * @param {Record<string, string | number>} [parts]
 * @param {Record<string, Value>} [query] what is null, undefined or empty is left out
 */
export function address(path, parts = {}, query = {}) {
  const found = Object.entries(query).filter((each) => each[1] !== undefined && each[1] !== null && each[1] !== "");
  const pairs = found.flatMap(([name, value]) => [value].flat().map((each) => [name, String(each)]));
  const text = new URLSearchParams(pairs).toString();
  const filled = path.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(String(parts[name])));
  return filled + (text && `?${text}`);
}

/**
 * Load something for a component, again whenever `inputs` change. What was loaded stays while newer is on its way.
 * @template T
 * @param {(abort: AbortSignal) => Promise<T>} load
 * @param {unknown[]} inputs
 * @returns {{ data: T | undefined, problem: Problem | undefined, loading: boolean, reload: () => void }}
 */
export function useLoaded(load, inputs) {
  const [state, set] = useState(/** @type {{ data?: T, problem?: Problem, loading: boolean }} */ ({ loading: true }));
  const [round, again] = useState(0);
  useEffect(() => {
    const abort = new AbortController();
    set((before) => ({ ...before, loading: true }));
    load(abort.signal).then(
      (data) => abort.signal.aborted || set({ data, loading: false }),
      (problem) => abort.signal.aborted || set((before) => ({ ...before, problem: asProblem(problem), loading: false })),
    );
    return () => abort.abort();
  }, [...inputs, round]);
  return { data: state.data, problem: state.problem, loading: state.loading, reload: () => again((n) => n + 1) };
}

/** @param {unknown} error */
export function asProblem(error) {
  return error instanceof Problem ? error : new Problem(0, "console_error", "The console failed", String(error));
}
