// What is under a list: how much of it is shown, and the way to the rest.
import { html } from "../html.js";
import { number } from "../format.js";
import { link } from "../router.js";
import { Clock } from "./time.js";

/**
 * A page without rows may be followed by others: a call looks at a limited number of rows.
 * @param {{ path: string, filter: Record<string, string>, cursor: string, rows: number, next: string | null | undefined,
 *   searchedTo?: string | null | undefined }} props
 */
export function Pager({ path, filter, cursor, rows, next, searchedTo }) {
  if (!rows && !next && !cursor) return null;
  const some = `${number(rows)} ${cursor ? "older" : "newest"}; ${next ? "there are more" : "these are all"}`;
  return html`<footer class="pager"><span class="dim">${rows ? some : next ? "none so far" : "no more"}${searchedTo && html`, searched back to <${Clock} at=${searchedTo} />`}</span>
    ${cursor && html`<a class="button" href=${link(path, filter)}>Newest</a>`}
    ${next && html`<a class="button" href=${link(path, { ...filter, cursor: next })}>Older</a>`}</footer>`;
}
