// The newest requests of the caller, for the overview of a user.
import { html } from "../html.js";
import { useList } from "../list.js";
import { link } from "../router.js";
import { Empty, Failure, Panel } from "./panel.js";
import { Head, Row } from "./row.js";

export function Latest() {
  const list = useList({}, "", 15);
  return html`<${Panel} title="Newest requests" tools=${html`<a href=${link("/requests")}>All</a>`} flush>
    ${list.problem && !list.rows.length && html`<${Failure} problem=${list.problem} again=${list.reload} />`}
    ${!list.loading && !list.problem && !list.rows.length && html`<${Empty} title="You have sent no request yet." />`}
    ${list.rows.length > 0 && html`<table class="cards requests"><${Head} columns=${{}} /><tbody>${list.rows.map((row) => html`<${Row} key=${row.id} row=${row} columns=${{}} />`)}</tbody></table>`}
  </${Panel}>`;
}
