// Bytes in rows: offset, hexadecimal digits, characters.
import { useEffect, useState } from "preact/hooks";
import { html } from "../html.js";
import { hex, printable } from "../bytes.js";
import { dump } from "../hexedit.js";

const NARROW = "(max-width: 720px)";

/** How many bytes a row has room for. */
export function useWidth() {
  const [narrow, set] = useState(matchMedia(NARROW).matches);
  useEffect(() => {
    const media = matchMedia(NARROW);
    const look = () => set(media.matches);
    media.addEventListener("change", look);
    return () => media.removeEventListener("change", look);
  }, []);
  return narrow ? 8 : 16;
}

/** @param {number} length @param {number} width @param {number} first */
export const offsets = (length, width, first) => rows(length, width, (row) => (first + row * width).toString(16).padStart(4, "0"));

/** @param {Uint8Array} bytes @param {number} width */
export const texts = (bytes, width) => rows(bytes.length, width, (row) => [...bytes.subarray(row * width, (row + 1) * width)].map(printable).join(""));

/** @param {number} length @param {number} width @param {(row: number) => string} text */
const rows = (length, width, text) => Array.from({ length: Math.max(1, Math.ceil(length / width)) }, (_, row) => text(row)).join("\n");

/** @param {{ bytes: Uint8Array, label: string }} props */
export function Dump({ bytes, label }) {
  const width = useWidth();
  return html`<div class="dump" role="region" tabindex="0" aria-label=${label}>
    <pre class="dim" aria-hidden="true">${offsets(bytes.length, width, 0)}</pre><pre>${dump(bytes, width)}</pre><pre class="dim" aria-hidden="true">${texts(bytes, width)}</pre></div>`;
}

/** The digits with some of the bytes marked. @param {Uint8Array} bytes @param {number} width @param {Set<number>} marked */
export function markedDump(bytes, width, marked) {
  /** @type {any[]} */
  const made = [];
  let text = "";
  for (const [index, byte] of bytes.entries()) {
    text += index ? (index % width ? " " : "\n") : "";
    if (marked.has(index)) {
      made.push(text, html`<mark>${hex(byte)}</mark>`);
      text = "";
    } else text += hex(byte);
  }
  return [...made, text];
}
