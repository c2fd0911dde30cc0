// An editor of bytes in hexadecimal digits: a text field over a dump, so that keys, selection and touch are the browser's.
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { html } from "../html.js";
import { notText } from "../bytes.js";
import { number } from "../format.js";
import { dump, edit, spliced, undump } from "../hexedit.js";
import { markedDump, offsets, texts, useWidth } from "./dump.js";

/** Bytes that are shown at once. */
const PART = 8192;

/** @param {{ bytes: Uint8Array, change: (bytes: Uint8Array) => void, undo: () => void }} props */
export function Hex({ bytes, change, undo }) {
  const width = useWidth();
  const field = useRef(/** @type {HTMLTextAreaElement | null} */ (null));
  const caret = useRef(/** @type {number | null} */ (null));
  const [inserts, setInserts] = useState(false);
  const [asked, setPart] = useState(0);
  const last = Math.max(0, Math.ceil(bytes.length / PART) - 1);
  const part = Math.min(asked, last);
  const first = part * PART;
  const shown = bytes.subarray(first, first + PART);
  useLayoutEffect(() => {
    if (caret.current === null || document.activeElement !== field.current) return;
    field.current?.setSelectionRange(caret.current, caret.current);
    caret.current = null;
  });
  const put = (/** @type {Uint8Array} */ made) => change(spliced(bytes, first, shown.length, made));
  function before(/** @type {InputEvent} */ event) {
    const { inputType: type, target } = event;
    if (!event.cancelable || !(target instanceof HTMLTextAreaElement)) return;
    event.preventDefault();
    if (type === "historyUndo") return undo();
    const data = event.data ?? event.dataTransfer?.getData("text/plain") ?? "";
    const made = edit(shown, { type, data, start: target.selectionStart, end: target.selectionEnd, inserts });
    if (!made) return;
    caret.current = made.caret;
    put(made.bytes);
  }
  const keys = (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Insert") setInserts(!inserts);
    if (event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      undo();
    }
  };
  const text = dump(shown, width);
  const bad = new Set(notText(shown));
  return html`<div class="dump editor">
      <pre class="dim" aria-hidden="true">${offsets(shown.length, width, first)}</pre>
      <div class="digits" style=${{ width: `${3 * width}ch` }}><pre aria-hidden="true">${markedDump(shown, width, bad)}</pre>
        <textarea ref=${field} aria-label="Bytes in hexadecimal digits" aria-describedby="hex-help" value=${text} rows=${Math.max(1, Math.ceil(shown.length / width))}
          spellcheck=${false} autocomplete="off" autocapitalize="off" onbeforeinput=${before} onInput=${(/** @type {any} */ event) => put(undump(event.target.value))} onKeyDown=${keys}></textarea></div>
      <pre class="dim" aria-hidden="true">${texts(shown, width)}</pre>
    </div>
    <div class="under dim hexfoot"><label class="check"><input type="checkbox" checked=${inserts} onChange=${() => setInserts(!inserts)} />Insert</label>
      <span id="hex-help">${inserts ? "A digit makes a new byte." : "A digit changes the one under the cursor."} Backspace deletes a byte, Ctrl+Z takes back.</span>
      ${last > 0 && html`<span class="inline parts">Bytes ${number(first)} to ${number(first + shown.length - 1)}
        <button type="button" disabled=${part === 0} onClick=${() => setPart(part - 1)}>Before</button>
        <button type="button" disabled=${part === last} onClick=${() => setPart(part + 1)}>After</button></span>`}</div>`;
}
