// The form of the playground.
import { html } from "../html.js";
import { bodyOf, EMPTY, OPTIONS, ROLES } from "../sending.js";
import { Panel } from "./panel.js";
import { Sign } from "./sign.js";

/**
 * @param {{ draft: import("../sending.js").Draft, change: (draft: import("../sending.js").Draft) => void, models: any[] | undefined,
 *   asking: boolean, busy: boolean, problem: any, send: () => void }} props
 */
export function PlayForm({ draft, change, models = [], asking, busy, problem, send }) {
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    send();
  };
  const keyed = (/** @type {KeyboardEvent} */ event) => (event.ctrlKey || event.metaKey) && event.key === "Enter" && submit(event);
  const put = (/** @type {number} */ at, /** @type {Partial<import("../sending.js").Said>} */ part) =>
    change({ ...draft, messages: draft.messages.map((each, index) => (index === at ? { ...each, ...part } : each)) });
  const last = draft.messages.at(-1);
  const add = () => change({ ...draft, messages: [...draft.messages, { role: last?.role === "user" ? "assistant" : "user", content: "" }] });
  const remove = (/** @type {number} */ at) => change({ ...draft, messages: draft.messages.filter((_, index) => index !== at) });
  const tools = html`<button type="button" class="quiet" onClick=${() => change(EMPTY)}>Clear</button>`;
  return html`<${Panel} title="Request" tools=${tools}><form class="playform" onSubmit=${submit} onKeyDown=${keyed}>
    <${Model} draft=${draft} models=${models} asking=${asking} change=${change} />
    <div class="writing">${draft.messages.map((each, index) => html`<div key=${index} class=${`written by-${each.role}`}>
      <select aria-label=${`Role of message ${index + 1}`} value=${each.role} onChange=${(/** @type {any} */ event) => put(index, { role: event.target.value })}>
        ${ROLES.map((role) => html`<option key=${role} value=${role}>${role}</option>`)}</select>
      ${draft.messages.length > 1 && html`<button type="button" class="icon" aria-label=${`Remove message ${index + 1}`} onClick=${() => remove(index)}><${Sign} name="close" /></button>`}
      <textarea rows=${Math.min(12, Math.max(3, each.content.split("\n").length + 1))} aria-label=${`Message ${index + 1}`} value=${each.content} placeholder=${each.role === "system" ? "How to answer" : "What to answer"}
        onInput=${(/** @type {any} */ event) => put(index, { content: event.target.value })}></textarea></div>`)}
      <button type="button" class="quiet add" onClick=${add}>Add a message</button></div>
    <details open=${Object.values(draft.options).some(Boolean)}><summary>Options</summary><div class="fields options">${OPTIONS.map(({ name, label, hint, text, ...limits }) => html`<label key=${name}>${label}
      <input type=${text ? "text" : "number"} ...${limits} placeholder=${hint} value=${draft.options[name] ?? ""} spellcheck=${false} autocomplete="off"
        onInput=${(/** @type {any} */ event) => change({ ...draft, options: { ...draft.options, [name]: event.target.value } })} /></label>`)}</div></details>
    ${problem && html`<p class="is-failed wrap" role="alert">${problem.title}. ${problem.detail} <code>${problem.code}</code></p>`}
    <div class="buttons"><span class="dim hint"><kbd>Ctrl</kbd> <kbd>Enter</kbd></span><button type="submit" class="primary" disabled=${busy || !bodyOf(draft)["messages"].length}>Send</button></div>
  </form></${Panel}>`;
}

/** @param {{ draft: import("../sending.js").Draft, models: any[], asking: boolean, change: (draft: import("../sending.js").Draft) => void }} props */
function Model({ draft, models, asking, change }) {
  const agents = models.filter((each) => each.id.startsWith("agent:"));
  const plain = models.filter((each) => !each.id.startsWith("agent:"));
  const known = !draft.model || models.some((each) => each.id === draft.model);
  const option = (/** @type {any} */ each) => html`<option key=${each.id} value=${each.id}>${each.id}</option>`;
  return html`<label>Model or agent<select aria-busy=${asking} value=${draft.model} onChange=${(/** @type {any} */ event) => change({ ...draft, model: event.target.value })}>
    <option value="">the default model</option>${!known && option({ id: draft.model })}
    <optgroup label="Models">${plain.map(option)}</optgroup>
    ${agents.length > 0 && html`<optgroup label="Agents">${agents.map(option)}</optgroup>`}</select></label>`;
}
