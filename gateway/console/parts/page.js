// A page with its heading.
import { html } from "../html.js";

/**
 * Every page begins with it.
 * @param {{ title: any, note?: any, tools?: any, children?: any }} props
 */
export function Page({ title, note, tools, children }) {
  return html`<div class="page"><header class="head"><h1>${title}</h1>${note && html`<div class="note">${note}</div>`}
    ${tools && html`<div class="tools">${tools}</div>`}</header>${children}</div>`;
}
