// Entries of the audit in words and links.

/** What can be asked for, as GET /v1/audit has it. */
export const ACTIONS = [
  "user.create", "user.update", "user.delete", "user.password", "owner.erase", "key.create", "key.revoke", "request.cancel", "request.change", "request.retry",
  "request.delete", "conversation.branch", "conversation.copy", "conversation.update", "conversation.delete", "item.delete", "file.delete",
  "dead_letter.edit", "dead_letter.replay", "model.pause", "model.resume", "tenant.pause", "tenant.resume", "worker.drain", "worker.resume",
];

/** The actor of an entry that was made without credentials. */
export const WITHOUT_CREDENTIALS = `nobody`;

/** Where the console shows what an entry is about; undefined: nowhere. @param {string} target */
export function placeOf(target) {
  const [kind, id, ...more] = target.split("/");
  if (!id || more.length) return undefined;
  if (kind === "requests" || kind === "conversations" || kind === "dead-letters") return `/${kind}/${id}`;
  return kind === "models" || kind === "workers" || kind === "keys" ? `/${kind}` : kind === "users" ? "/people" : undefined;
}

/**
 * What became different: name, before and after as text.
 * @param {{ before: Record<string, unknown> | null, after: Record<string, unknown> | null }} entry
 * @returns {[string, string | undefined, string | undefined][]}
 */
export function changeOf({ before, after }) {
  const names = [...new Set([...Object.keys(before ?? {}), ...Object.keys(after ?? {})])];
  const text = (/** @type {Record<string, unknown> | null} */ of, /** @type {string} */ name) => (of && name in of ? shown(of[name]) : undefined);
  return names.map((name) => [name, text(before, name), text(after, name)]);
}

const MOMENT = /^\d{4}-\d\d-\d\dT[\d:.]+(Z|\+00:00)$/;

/** @param {unknown} value */
const shown = (value) => (typeof value === "string" && MOMENT.test(value) ? `${value.slice(0, 19).replace("T", " ")} UTC` : value === null ? "none" : Array.isArray(value) ? value.map(String).join(", ") : typeof value === "object" ? JSON.stringify(value) : String(value));
