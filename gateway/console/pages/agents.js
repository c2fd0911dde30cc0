// The agents: models with a role of their own. They are files of the gateway, and only shown here.
import { html } from "../html.js";
import { get, useLoaded } from "../api.js";
import { plural } from "../format.js";
import { link, linkIfAny } from "../router.js";
import { Copy } from "../parts/copy.js";
import { Page } from "../parts/page.js";
import { Empty, Facts, Loaded, Panel } from "../parts/panel.js";

/** Names of options as people say them. @type {[keyof Api.AgentResource & string, string][]} */
const OPTIONS = [
  ["temperature", "Temperature"], ["top_p", "Top p"], ["max_tokens", "Tokens, at most"], ["seed", "Seed"], ["stop", "Stops at"],
  ["frequency_penalty", "Frequency penalty"], ["presence_penalty", "Presence penalty"], ["reasoning_effort", "Reasoning"],
];

export default function Agents() {
  const agents = useLoaded((abort) => get("/v1/agents", { abort }), []);
  return html`<${Page} title="Agents" note=${agents.data && plural(agents.data.data.length, "agent")}>
    <${Loaded} of=${agents}>${(/** @type {Api.AgentPage} */ page) => page.data.length
      ? html`<div class="columns">${page.data.map((agent) => html`<${Agent} key=${agent.name} of=${agent} />`)}</div>`
      : html`<${Panel} title="What answers" flush><${Empty} title="This gateway has no agents.">
        <p class="dim">An agent is a model with a system message, options and a shape of its answer. Each is a file in the folder that <code>AGENTS_DIR</code> names.</p></${Empty}></${Panel}>`}
    </${Loaded}>
  </${Page}>`;
}

/** @param {{ of: Api.AgentResource }} props */
function Agent({ of }) {
  const play = linkIfAny("/playground") && link("/playground", { model: `agent:${of.name}` });
  const options = OPTIONS.filter(([name]) => of[name] !== null && of[name] !== undefined);
  return html`<${Panel} title=${of.name} tools=${html`<${Copy} text=${`agent:${of.name}`} label="its name as a model" />${play && html`<a class="button" href=${play}>Try it</a>`}`}>
    <div class="stack">
      ${of.description && html`<p class="wrap">${of.description}</p>`}
      <${Facts} rows=${[
        ["Asked for as", html`<code>${of.name}</code> in <code>agent</code>, or <code>agent:${of.name}</code> in <code>model</code>`],
        ["Model", of.model ? html`<a href=${link("/requests", { model: of.model })}>${of.model}</a>` : html`<span class="dim">the default model</span>`],
        ...options.map(([name, label]) => /** @type {[string, any]} */ ([label, [of[name]].flat().map((each) => (name === "stop" ? JSON.stringify(each) : each)).join(", ")])),
        ["Answers with", of.answer_schema ? "JSON that matches its schema" : "free text"],
      ]} />
      ${of.answer_schema && html`<details><summary>The schema of its answers</summary><pre class="value" tabindex="0">${JSON.stringify(of.answer_schema, null, 2)}</pre></details>`}
    </div>
  </${Panel}>`;
}
