// The filters of a list: a search that reads `name:value`, the states, and a form of all fields. The address has them.
import { useRef, useState } from "preact/hooks";
import { html } from "../html.js";
import { FIELDS, filterOf, labelOf, read, STATES } from "../filters.js";
import { local } from "../format.js";
import { useKeys } from "../keys.js";
import { go, link, path, query, refine } from "../router.js";
import { Sign } from "./sign.js";

export function FilterBar() {
  const search = useRef(/** @type {HTMLInputElement | null} */ (null));
  const menu = useRef(/** @type {HTMLDetailsElement | null} */ (null));
  const [wrong, setWrong] = useState("");
  const filter = filterOf(query.value);
  useKeys([
    { key: "/", text: "Search", run: () => search.current?.focus() },
    { key: "f", text: "Filter", run: () => menu.current?.querySelector("summary")?.click() },
  ]);
  function submit(/** @type {Event} */ event) {
    event.preventDefault();
    const field = search.current;
    const asked = read(field?.value ?? "");
    if ("id" in asked) return go(link(`/requests/${asked.id}`));
    setWrong("wrong" in asked ? asked.wrong : "");
    if (!("filter" in asked) || !field) return undefined;
    field.value = "";
    return refine({ ...asked.filter, cursor: undefined });
  }
  return html`<div class="filters">
    <form role="search" onSubmit=${submit}>
      <${Sign} name="search" /><input ref=${search} type="search" aria-label="Search: an id, or filters such as model:llama3"
        placeholder="id, or model:llama3 state:failed" spellcheck=${false} autocomplete="off" aria-invalid=${wrong ? "true" : undefined} />
    </form>
    <nav class="segments states" aria-label="State">
      ${["", ...STATES].map((state) => html`<a key=${state} href=${link(path.value, { ...filter, status: state })} aria-current=${(filter["status"] ?? "") === state ? "true" : undefined}>
        ${state ? html`<${Sign} name=${state} tone=${state} />${state.replace("_", " ")}` : "all"}</a>`)}
    </nav>
    <details class="menu" ref=${menu}><summary class="button"><${Sign} name="filter" />Filter</summary><div><${Form} filter=${filter} close=${() => menu.current?.removeAttribute("open")} /></div></details>
    ${wrong && html`<p class="is-failed wide" role="alert">${wrong}</p>`}
    <${Chips} filter=${filter} />
  </div>`;
}

/** @param {{ filter: Record<string, string> }} props */
function Chips({ filter }) {
  const set = Object.entries(filter).filter(([name]) => name !== "status");
  if (!set.length) return null;
  return html`<div class="chips wide">${set.map(([name, value]) => html`<button key=${name} type="button" class="chip" aria-label=${`Remove the filter ${labelOf(name)}: ${value}`}
      onClick=${() => refine({ [name]: undefined, cursor: undefined })}>
      <span class="dim">${labelOf(name)}</span> <span class="cut">${value}</span><${Sign} name="close" /></button>`)}
    <a href=${link(path.value)}>Clear</a></div>`;
}

/** @param {{ filter: Record<string, string>, close: () => void }} props */
function Form({ filter, close }) {
  function submit(/** @type {SubmitEvent} */ event) {
    event.preventDefault();
    const form = new FormData(/** @type {HTMLFormElement} */ (event.currentTarget));
    const values = FIELDS.map((field) => [field.name, sent(field, String(form.get(field.name) ?? ""))]);
    refine({ ...Object.fromEntries(values), cursor: undefined });
    close();
  }
  return html`<form class="fields" onSubmit=${submit} key=${JSON.stringify(filter)}>
    ${FIELDS.map((field) => html`<label key=${field.name}>${field.label}<${Input} field=${field} value=${filter[field.name] ?? ""} /></label>`)}
    <div class="buttons"><button type="submit" class="primary">Apply</button></div>
  </form>`;
}

/** @param {{ field: import("../filters.js").Field, value: string }} props */
function Input({ field, value }) {
  if (field.kind === "choice") {
    return html`<select name=${field.name}><option value="">any</option>${field.choices?.map((each) => html`<option key=${each} value=${each} selected=${each === value}>${each}</option>`)}</select>`;
  }
  if (field.kind === "moment") return html`<input type="datetime-local" name=${field.name} value=${local(value)} />`;
  if (field.kind === "number") return html`<input type="number" min="0" name=${field.name} value=${value} />`;
  return html`<input name=${field.name} value=${value} placeholder=${field.hint} autocomplete="off" spellcheck=${false} />`;
}

/** @param {import("../filters.js").Field} field @param {string} text */
const sent = (field, text) => (field.kind === "moment" && text ? new Date(text).toISOString() : text.trim());
