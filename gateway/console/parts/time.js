// Times: relative, with the exact moment in UTC behind them.
import { html } from "../html.js";
import { brief, clock, duration, relative, utc } from "../format.js";
import { now } from "../live.js";

/** A moment: `3 s ago`. @param {{ at: string | null | undefined }} props */
export function Ago({ at }) {
  if (!at) return html`<span class="dim">–</span>`;
  return html`<time dateTime=${at} title=${utc(at)}>${relative(at, now.value)}</time>`;
}

/** A moment: `22:45:52`. @param {{ at: string | null | undefined }} props */
export function Clock({ at }) {
  if (!at) return html`<span class="dim">–</span>`;
  return html`<time dateTime=${at} title=${utc(at)}>${clock(at, now.value)}</time>`;
}

/** How long something took, or takes so far. @param {{ from: string | null | undefined, to?: string | null | undefined }} props */
export function Took({ from, to }) {
  if (!from) return html`<span class="dim">–</span>`;
  const end = to ? Date.parse(to) : now.value;
  return html`<span title=${duration((end - Date.parse(from)) / 1000)}>${brief(Math.max(0, (end - Date.parse(from)) / 1000))}</span>`;
}
