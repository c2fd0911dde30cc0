// A state is a sign, a word and a colour: none of them is needed to tell it.
import { html } from "../html.js";

/** Each sign as the paths of a 16 × 16 drawing; the second is filled. @type {Record<string, [string, string?]>} */
const SIGNS = {
  pending: ["M8 2.5a5.5 5.5 0 1 1 0 11a5.5 5.5 0 0 1 0-11M8 5v3l2 1.5"],
  in_progress: ["M8 2a6 6 0 1 1 0 12a6 6 0 0 1 0-12", "M6.4 5.2L11 8l-4.6 2.8z"],
  completed: ["M3 8.5l3.3 3.3L13 4.8"],
  failed: ["M4 4l8 8M12 4l-8 8"],
  cancelled: ["M8 2.5a5.5 5.5 0 1 1 0 11a5.5 5.5 0 0 1 0-11M4.2 4.2l7.6 7.6"],
  expired: ["M4 2.5h8M4 13.5h8M5 2.5c0 3 6 4 6 11M11 2.5c0 3-6 4-6 11"],
  ok: ["M3 8.5l3.3 3.3L13 4.8"],
  bad: ["M8 2.2L14 13H2zM8 6v3.4", "M7.3 10.6h1.4v1.3H7.3z"],
  warn: ["M8 2.5a5.5 5.5 0 1 1 0 11a5.5 5.5 0 0 1 0-11M8 5v3.6", "M7.3 10h1.4v1.3H7.3z"],
  info: ["M8 2.5a5.5 5.5 0 1 1 0 11a5.5 5.5 0 0 1 0-11M8 7.4V11", "M7.3 4.7h1.4V6H7.3z"],
  paused: ["M5.5 3.5v9M10.5 3.5v9"],
  external: ["M6.5 3.5h-3v9h9v-3M9 3h4v4M13 3L7.5 8.5"],
  copy: ["M5.5 5.5h7v7h-7zM3.5 10.5v-7h7"],
  close: ["M4 4l8 8M12 4l-8 8"],
  theme: ["M8 2.5a5.5 5.5 0 1 1 0 11a5.5 5.5 0 0 1 0-11", "M8 2.5a5.5 5.5 0 0 1 0 11z"],
  keys: ["M2 4.5h12v7H2zM4.5 7h0M7 7h0M9.5 7h0M12 7h0M5 9.5h6"],
  search: ["M7 2.8a4.2 4.2 0 1 1 0 8.4a4.2 4.2 0 0 1 0-8.4M10.2 10.2L13.5 13.5"],
  filter: ["M2.5 4h11M4.5 8h7M6.5 12h3"],
  next: ["M6 3.5L10.5 8L6 12.5"],
  back: ["M10 3.5L5.5 8L10 12.5"],
};

/** The colour of what is no state of a request. @type {Record<string, string>} */
const TONES = { ok: "completed", bad: "failed", warn: "pending", info: "in_progress" };

/** @param {{ name: string, tone?: string }} props */
export function Sign({ name, tone }) {
  const [line, filled] = SIGNS[name] ?? ["M8 8h0"];
  return html`<svg class=${`sign ${tone ? `is-${TONES[tone] ?? tone}` : ""}`} viewBox="0 0 16 16" aria-hidden="true">
    <path d=${line} />${filled && html`<path class="filled" d=${filled} />`}
  </svg>`;
}

/** That no worker takes a request now, and why. @param {{ by: string }} props  as `barOf` says it */
export const Barred = ({ by }) => by && html`<span class="state is-pending"><${Sign} name=${by === "paused" ? "paused" : "warn"} />${by}</span>`;

/** The state of a request; or, with its colour, of something else. @param {{ of: string, cancelling?: boolean, word?: string, sign?: string }} props */
export function State({ of, cancelling = false, word: other, sign = of }) {
  const word = other ?? (cancelling && (of === "pending" || of === "in_progress") ? "cancelling" : of.replace("_", " "));
  return html`<span class=${`state is-${of}`}><${Sign} name=${sign} />${word}</span>`;
}
