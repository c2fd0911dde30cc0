// The keys.
import { html } from "../html.js";
import { bindings, enable, enabled, EVERYWHERE, help } from "../keys.js";
import { PAGES } from "../pages.js";
import { may } from "../session.js";
import { Dialog } from "./dialog.js";

export function Help() {
  const pages = PAGES.filter((page) => page.key && may(page.scope));
  return html`<${Dialog} title="Keys" close=${() => (help.value = false)}>
    <div class="keylist">
      <div><${List} title="Go to" rows=${pages.map((page) => [`g ${page.key}`, page.title])} />
        <${List} title="Everywhere" rows=${EVERYWHERE.map((each) => [each.key, each.text])} /></div>
      ${bindings.value.length > 0 && html`<${List} title="On this page" rows=${bindings.value.map((each) => [each.key, each.text])} />`}
    </div>
    <label class="check"><input type="checkbox" checked=${enabled.value} onChange=${(/** @type {any} */ event) => enable(event.target.checked)} /> Single keys do something</label>
    <div class="buttons"><button type="button" class="primary" onClick=${() => (help.value = false)}>Close</button></div>
  </${Dialog}>`;
}

/** @param {{ title: string, rows: [string, string][] }} props */
const List = ({ title, rows }) => html`<div><h3>${title}</h3><dl>${rows.map(
  ([key, text]) => html`<div key=${key}><dt>${key.split(" ").map((each) => html`<kbd key=${each}>${each === " " ? "Space" : each}</kbd>`)}</dt><dd>${text}</dd></div>`,
)}</dl></div>`;
