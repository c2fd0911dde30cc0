// Says something in a conversation: the message becomes a request at its end.
import { useState } from "preact/hooks";
import { html } from "../html.js";
import { asProblem, get, post, useLoaded } from "../api.js";
import { newKey } from "../sending.js";

/** @param {{ conversation: string, model: string, field: { current: HTMLTextAreaElement | null }, sent: () => void }} props */
export function Composer({ conversation, model, field, sent }) {
  const models = useLoaded((abort) => get("/openai/v1/models", { abort }), []);
  const [text, setText] = useState("");
  const [chosen, choose] = useState("");
  const [state, set] = useState(/** @type {{ busy: boolean, problem?: any, key: string }} */ ({ busy: false, key: newKey() }));
  async function submit(/** @type {Event} */ event) {
    event.preventDefault();
    if (!text.trim() || state.busy) return;
    set({ ...state, busy: true });
    try {
      const name = chosen || model;
      const body = { conversation_id: conversation, ...(name && { model: name }), messages: [{ role: "user", content: text }] };
      await post("/v1/messages", { body, headers: { Prefer: "respond-async", "Idempotency-Key": state.key } });
      setText("");
      set({ busy: false, key: newKey() });
      sent();
      field.current?.focus();
    } catch (error) {
      // The key stays: if it was accepted after all, sending it again adds nothing.
      set({ ...state, busy: false, problem: asProblem(error) });
    }
  }
  const typed = (/** @type {any} */ event) => {
    setText(event.target.value);
    set({ busy: false, key: newKey() });
  };
  const enter = (/** @type {KeyboardEvent} */ event) => (event.ctrlKey || event.metaKey) && event.key === "Enter" && submit(event);
  const names = (models.data?.data ?? []).map((/** @type {any} */ each) => each.id);
  return html`<form class="composer" onSubmit=${submit}>
    <textarea ref=${field} rows="2" aria-label="Message" placeholder="Say something …" value=${text} onInput=${typed} onKeyDown=${enter}></textarea>
    ${state.problem && html`<p class="is-failed wrap" role="alert">${state.problem.title}. ${state.problem.detail} <code>${state.problem.code}</code></p>`}
    <div class="buttons"><label class="line">Model<select aria-busy=${!models.data && !models.problem} value=${chosen || model} onChange=${(/** @type {any} */ event) => choose(event.target.value)}>
        ${!names.includes(model) && html`<option value=${model}>${model || "the default model"}</option>`}
        ${names.map((/** @type {string} */ name) => html`<option key=${name} value=${name}>${name}</option>`)}</select></label>
      <span class="dim hint"><kbd>Ctrl</kbd> <kbd>Enter</kbd></span>
      <button type="submit" class="primary" disabled=${state.busy || !text.trim()}>Send</button></div>
  </form>`;
}
