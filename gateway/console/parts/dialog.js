// A dialog, and one that asks before something is done.
import { useEffect, useRef, useState } from "preact/hooks";
import { html } from "../html.js";
import { asProblem } from "../api.js";

/** @param {{ title: string, close: () => void, children?: any }} props */
export function Dialog({ title, close, children }) {
  const ref = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useEffect(() => {
    ref.current?.showModal();
  }, []);
  const outside = (/** @type {MouseEvent} */ event) => event.target === ref.current && close();
  return html`<dialog ref=${ref} aria-label=${title} onClose=${close} onClick=${outside}><div class="dialog">
    <h2>${title}</h2>${children}</div></dialog>`;
}

/**
 * Ask, do it, and show what went wrong.
 * @param {{ title: string, yes: string, danger?: boolean, act: () => Promise<void>, close: () => void, children?: any, ready?: boolean }} props
 */
export function Confirm({ title, yes, danger = false, act, close, children, ready = true }) {
  const [state, set] = useState(/** @type {{ busy: boolean, problem?: any }} */ ({ busy: false }));
  async function submit(/** @type {Event} */ event) {
    event.preventDefault();
    set({ busy: true });
    try {
      await act();
      close();
    } catch (error) {
      set({ busy: false, problem: asProblem(error) });
    }
  }
  return html`<${Dialog} title=${title} close=${close}><form onSubmit=${submit}>
    ${children}
    ${state.problem && html`<p class="is-failed" role="alert">${state.problem.title}. ${state.problem.detail}</p>`}
    <div class="buttons">
      <button type="button" onClick=${close}>Back</button>
      <button type="submit" class=${danger ? "danger" : "primary"} disabled=${state.busy || !ready}>${yes}</button>
    </div>
  </form></${Dialog}>`;
}
