// The draft of a dead letter: what a replay would send, as it is edited in this tab. It outlives a change of the page.
import { bytesOf, decode, equal, toBase64 } from "./bytes.js";

/** @typedef {{ name: string, value: string | null, value_base64: string | null }} Header */
/** @typedef {{ value: Uint8Array | null, key: Uint8Array | null, headers: Header[] }} Draft */

/** Drafts that were not saved, by the letter's id. @type {Map<string, Draft>} */
export const drafts = new Map();

/** @param {Api.LetterRecord} record @returns {Draft} */
export const draftOf = (record) => ({
  value: bytesOf(record.value, record.value_base64),
  key: bytesOf(record.key, record.key_base64),
  headers: record.headers.map(({ name, value, value_base64: base64 }) => ({ name, value: value ?? null, value_base64: base64 ?? null })),
});

/** @param {Draft} one @param {Draft} other */
export const same = (one, other) => equal(one.value, other.value) && equal(one.key, other.key) && sameHeaders(one, other);

/** @param {Draft} one @param {Draft} other */
const sameHeaders = (one, other) => JSON.stringify(one.headers) === JSON.stringify(other.headers);

/** What the API is to change, so that what is sent is the draft. @param {Draft} draft @param {Draft} saved */
export function changesOf(draft, saved) {
  return {
    ...(equal(draft.value, saved.value) ? {} : named("value", draft.value)),
    ...(equal(draft.key, saved.key) ? {} : named("key", draft.key)),
    ...(sameHeaders(draft, saved) ? {} : { headers: draft.headers }),
  };
}

/** @param {string} name @param {Uint8Array | null} bytes */
function named(name, bytes) {
  const text = bytes && decode(bytes);
  return bytes && text === null ? { [`${name}_base64`]: toBase64(bytes) } : { [name]: text };
}

/** Where a letter's record is. @param {Api.DeadLetterSummary} letter */
export const placeOf = ({ topic, partition, offset }) => `${topic}[${partition}]@${offset}`;
