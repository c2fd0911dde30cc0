// Bytes of records: as text where they are UTF-8, as base64 in the API where they are not.

const DECODER = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const PIECE = 0x8000;

/** @param {string} text */
export const encode = (text) => new TextEncoder().encode(text);

/** The text of bytes; null if they are not UTF-8. @param {Uint8Array} bytes */
export function decode(bytes) {
  try {
    return DECODER.decode(bytes);
  } catch {
    return null;
  }
}

/** @param {string} text */
export const fromBase64 = (text) => Uint8Array.from(atob(text), (each) => each.charCodeAt(0));

/** @param {Uint8Array} bytes */
export function toBase64(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += PIECE) text += String.fromCharCode(...bytes.subarray(at, at + PIECE));
  return btoa(text);
}

/** What the API sends as text or as base64; null: nothing. What is not base64 is shown as it is. @param {string | null | undefined} text @param {string | null | undefined} base64 */
export function bytesOf(text, base64) {
  if (base64 === null || base64 === undefined) return text === null || text === undefined ? null : encode(text);
  try {
    return fromBase64(base64);
  } catch {
    return encode(base64);
  }
}

/** @param {Uint8Array | null} one @param {Uint8Array | null} other */
export function equal(one, other) {
  if (!one || !other) return one === other;
  return one.length === other.length && one.every((byte, index) => byte === other[index]);
}

/**
 * How long the UTF-8 sequence is that begins at an index; 0: none does.
 * @param {Uint8Array} bytes
 * @param {number} at
 */
export function sequence(bytes, at) {
  const first = bytes[at] ?? 0;
  if (first < 0x80) return 1;
  const length = first >= 0xc2 && first < 0xe0 ? 2 : first >= 0xe0 && first < 0xf0 ? 3 : first >= 0xf0 && first < 0xf5 ? 4 : 0;
  return length && at + length <= bytes.length && decode(bytes.subarray(at, at + length)) !== null ? length : 0;
}

/** Indexes of the first bytes that are not UTF-8. @param {Uint8Array} bytes @param {number} [most] */
export function notText(bytes, most = 200) {
  const found = [];
  for (let at = 0; at < bytes.length && found.length < most; ) {
    const length = sequence(bytes, at);
    if (!length) found.push(at);
    at += length || 1;
  }
  return found;
}

/** The bytes as UTF-8, those that are not UTF-8 read as Latin-1. @param {Uint8Array} bytes */
export function repaired(bytes) {
  const bad = new Set(notText(bytes, Infinity));
  const made = [];
  for (const [index, byte] of bytes.entries()) {
    if (bad.has(index)) made.push(0xc0 | (byte >> 6), 0x80 | (byte & 0x3f));
    else made.push(byte);
  }
  return Uint8Array.from(made);
}

/** @param {number} byte */
export const hex = (byte) => byte.toString(16).padStart(2, "0");

/** A character for a byte, as dumps show it. @param {number} byte */
export const printable = (byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : "·");
