// What was done, or could not be: said once at the lower edge, and read out.
import { signal } from "@preact/signals";

const SHOWN_MS = 8000;

/** @typedef {{ id: number, kind: "ok" | "bad", text: string }} Notice */

/** @type {import("@preact/signals").Signal<Notice[]>} */
export const notices = signal([]);
let last = 0;

/**
 * @param {string} text
 * @param {"ok" | "bad"} [kind] what is bad stays until it is dismissed
 */
export function notify(text, kind = "ok") {
  const id = ++last;
  notices.value = [...notices.value, { id, kind, text }].slice(-4);
  if (kind === "ok") setTimeout(() => dismiss(id), SHOWN_MS);
}

/** @param {number} id */
export function dismiss(id) {
  notices.value = notices.value.filter((each) => each.id !== id);
}
