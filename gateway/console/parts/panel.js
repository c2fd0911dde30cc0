// A titled part of a page, and what is shown in the place of its contents.
import { html } from "../html.js";
import { link } from "../router.js";
import { Page } from "./page.js";
import { Sign } from "./sign.js";

/**
 * @param {{ title: string, note?: any, tools?: any, class?: string, flush?: boolean, children?: any }} props
 *   `flush`: the contents reach its edges, as tables do
 */
export function Panel({ title, note, tools, class: name = "", flush = false, children }) {
  return html`<section class=${`panel ${name}`} aria-label=${title}>
    <header><h2>${title}</h2>${note && html`<span class="note">${note}</span>`}
      ${tools && html`<div class="tools">${tools}</div>`}</header>
    <div class=${flush ? "flush" : "body"}>${children}</div>
  </section>`;
}

/** Nothing to show: why, and what to do next. @param {{ title: string, children?: any, sign?: string }} props */
export function Empty({ title, children, sign = "info" }) {
  return html`<div class="empty"><${Sign} name=${sign} tone=${sign} /><div><p class="strong">${title}</p>${children}</div></div>`;
}

/** What an address names is not there, or may not be seen. @param {{ title: string, what: string, list: string, children?: any }} props  `list`: the path of the page that lists them */
export const Missing = ({ title, what, list, children }) => html`<${Page} title=${title}>
  <${Empty} title=${`There is no such ${what}, or it is not yours to see.`}>${children}<p><a href=${link(list)}>To the list</a></p></${Empty}></${Page}>`;

/** A call that failed. @param {{ problem: import("../api.js").Problem, again?: () => void }} props */
export function Failure({ problem, again }) {
  return html`<div class="empty" role="alert"><${Sign} name="bad" tone="bad" /><div>
    <p class="strong">${problem.title}</p>
    <p class="dim">${problem.detail} <code>${problem.code}</code></p>
    ${again && html`<button type="button" onClick=${again}>Try again</button>`}
  </div></div>`;
}

/** The contents of a panel, once they are loaded. @param {{ of: { data: any, problem: any, reload: () => void }, children: (data: any) => any }} props */
export function Loaded({ of, children }) {
  if (of.data !== undefined) return children(of.data);
  if (of.problem) return html`<${Failure} problem=${of.problem} again=${of.reload} />`;
  return html`<div class="loading" aria-busy="true"><span class="hidden">Loading</span></div>`;
}

/** Facts: names and values. @param {{ rows: [string, any][] }} props  rows without a value are left out */
export function Facts({ rows }) {
  const shown = rows.filter(([, value]) => value !== undefined && value !== null && value !== "" && value !== false);
  return html`<dl class="facts">${shown.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}
