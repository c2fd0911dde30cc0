// One number, as large as it is important.
import { html } from "../html.js";

/**
 * @param {{ name: string, value: any, unit?: string, note?: any, tone?: string, href?: string, title?: string }} props
 *   `tone`: `bad` or `warn`, for a number that needs someone
 */
export function Tile({ name, value, unit, note, tone, href, title }) {
  const inside = html`<span class="name">${name}</span>
    <span class="value">${value}${unit && html`<small>${unit}</small>`}</span>
    <span class="note">${note ?? " "}</span>`;
  const style = `tile ${tone ? `tone-${tone}` : ""}`;
  return href
    ? html`<a class=${style} href=${href} title=${title}>${inside}</a>`
    : html`<div class=${style} title=${title}>${inside}</div>`;
}
