// The filters of the list of dead letters; the address has them.
import { useRef } from "preact/hooks";
import { html } from "../html.js";
import { local } from "../format.js";
import { useKeys } from "../keys.js";
import { link, path, refine } from "../router.js";
import { Sign } from "./sign.js";

const SENT = /** @type {const} */ ([["", "all"], ["false", "not sent again"], ["true", "sent again"]]);
const FIELDS = /** @type {const} */ ([
  ["reason", "Reason", "not_json"], ["topic", "Topic", "llm.requests"], ["created_after", "Set aside after", ""], ["created_before", "Set aside before", ""],
]);

/** @param {{ filter: Record<string, string> }} props */
export function LetterFilter({ filter }) {
  const menu = useRef(/** @type {HTMLDetailsElement | null} */ (null));
  useKeys([{ key: "f", text: "Filter", run: () => menu.current?.querySelector("summary")?.click() }]);
  const set = FIELDS.filter(([name]) => filter[name]);
  return html`<div class="filters">
    <nav class="segments states" aria-label="Sent again">${SENT.map(([value, word]) => html`<a key=${value} href=${link(path.value, { ...filter, replayed: value })} aria-current=${(filter["replayed"] ?? "") === value ? "true" : undefined}>${word}</a>`)}</nav>
    <details class="menu start" ref=${menu}><summary class="button"><${Sign} name="filter" />Filter</summary><div><${Form} filter=${filter} close=${() => menu.current?.removeAttribute("open")} /></div></details>
    ${set.length > 0 && html`<div class="chips">${set.map(([name, label]) => html`<button key=${name} type="button" class="chip" aria-label=${`Remove the filter ${label}: ${filter[name]}`} onClick=${() => refine({ [name]: undefined, cursor: undefined })}>
      <span class="dim">${label}</span> <span class="cut">${filter[name]}</span><${Sign} name="close" /></button>`)}<a href=${link(path.value)}>Clear</a></div>`}
  </div>`;
}

/** @param {{ filter: Record<string, string>, close: () => void }} props */
function Form({ filter, close }) {
  function submit(/** @type {SubmitEvent} */ event) {
    event.preventDefault();
    const form = new FormData(/** @type {HTMLFormElement} */ (event.currentTarget));
    const value = (/** @type {string} */ name) => String(form.get(name) ?? "").trim();
    const sent = FIELDS.map(([name]) => [name, isMoment(name) && value(name) ? new Date(value(name)).toISOString() : value(name)]);
    refine({ ...Object.fromEntries(sent), cursor: undefined });
    close();
  }
  return html`<form class="fields" onSubmit=${submit} key=${JSON.stringify(filter)}>
    ${FIELDS.map(([name, label, hint]) => html`<label key=${name}>${label}${isMoment(name)
      ? html`<input type="datetime-local" name=${name} value=${local(filter[name] ?? "")} />`
      : html`<input name=${name} value=${filter[name] ?? ""} placeholder=${hint} autocomplete="off" spellcheck=${false} />`}</label>`)}
    <div class="buttons"><button type="submit" class="primary">Apply</button></div></form>`;
}

/** @param {string} name */
const isMoment = (name) => name.startsWith("created");
