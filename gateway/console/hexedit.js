// Editing bytes as hexadecimal digits. In the text of a dump each byte has three places: two digits, then a space or
// the end of its row; so byte `n` begins at place `3 n`, whatever the width of the rows.
import { hex } from "./bytes.js";

/** @typedef {{ bytes: Uint8Array, caret: number }} Edited  `caret`: a place in the text */

/** @param {Uint8Array} bytes @param {number} width bytes of a row */
export function dump(bytes, width) {
  let text = "";
  for (const [index, byte] of bytes.entries()) text += (index ? (index % width ? " " : "\n") : "") + hex(byte);
  return text;
}

/** The bytes that a text has in hexadecimal digits; of an odd number the last one is a whole byte. @param {string} text */
export function undump(text) {
  const digits = text.replace(/[^0-9a-f]/gi, "");
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

/**
 * What an input event does to the bytes; null: nothing.
 * @param {Uint8Array} bytes
 * @param {{ type: string, data: string, start: number, end: number, inserts: boolean }} input
 *   `start`, `end`: the selection; `inserts`: a digit makes a new byte instead of changing the one that is there
 * @returns {Edited | null}
 */
export function edit(bytes, { type, data, start, end, inserts }) {
  const [from, to] = [Math.floor((start + 1) / 3), Math.ceil(end / 3)];
  if (type.startsWith("delete")) return remove(bytes, type, start, end, from, to);
  if (!type.startsWith("insert")) return null;
  const digits = data.replace(/0x|[^0-9a-f]/gi, "");
  if (!digits) return null;
  if (start === end && digits.length === 1) return typed(bytes, Number.parseInt(digits, 16), start, inserts);
  const put = undump(digits.length % 2 ? `${digits}0` : digits);
  const made = spliced(bytes, from, Math.max(0, start === end ? 0 : to - from), put);
  return { bytes: made, caret: 3 * (from + put.length) - (digits.length % 2 ? 2 : 0) };
}

/** @param {Uint8Array} bytes @param {number} digit @param {number} place @param {boolean} inserts @returns {Edited} */
function typed(bytes, digit, place, inserts) {
  const second = place % 3 === 1;
  const at = second ? Math.floor(place / 3) : Math.ceil(place / 3);
  if (!second && (inserts || at >= bytes.length)) {
    return { bytes: spliced(bytes, at, 0, Uint8Array.of(digit << 4)), caret: 3 * at + 1 };
  }
  const made = bytes.slice();
  const before = made[at] ?? 0;
  made[at] = second ? (before & 0xf0) | digit : (digit << 4) | (before & 0x0f);
  return { bytes: made, caret: 3 * at + (second ? 3 : 1) };
}

/** @param {Uint8Array} bytes @param {string} type @param {number} start @param {number} end @param {number} from @param {number} to @returns {Edited | null} */
function remove(bytes, type, start, end, from, to) {
  if (start !== end) return { bytes: spliced(bytes, from, Math.max(0, to - from)), caret: 3 * from };
  const at = type.includes("Forward") ? from : Math.ceil(start / 3) - 1;
  return at < 0 || at >= bytes.length ? null : { bytes: spliced(bytes, at, 1), caret: 3 * at };
}

/** @param {Uint8Array} bytes @param {number} at @param {number} gone @param {Uint8Array} [put] */
export function spliced(bytes, at, gone, put = new Uint8Array()) {
  const made = new Uint8Array(bytes.length - Math.min(gone, bytes.length - at) + put.length);
  made.set(bytes.subarray(0, at));
  made.set(put, at);
  made.set(bytes.subarray(at + gone), at + put.length);
  return made;
}
