// Filters of lists of requests: in the address under the names that GET /v1/requests has for them.

export const STATES = /** @type {const} */ (["pending", "in_progress", "completed", "failed", "cancelled", "expired"]);

/** @typedef {{ name: string, label: string, hint: string, kind?: "moment" | "number" | "choice", choices?: string[] }} Field */

/** Fields of the filter beside the state. @type {Field[]} */
export const FIELDS = [
  { name: "model", label: "Model", hint: "llama3" },
  { name: "owner", label: "Owner", hint: "ada" },
  { name: "task_type", label: "Task type", hint: "analyst" },
  { name: "conversation_id", label: "Conversation", hint: "id of a conversation" },
  { name: "door", label: "By OpenAI's API", hint: "", kind: "choice", choices: ["chat", "responses"] },
  { name: "error_code", label: "Error", hint: "timeout" },
  { name: "priority", label: "Priority", hint: "0 to 9", kind: "number" },
  { name: "attempts_min", label: "Attempts, at least", hint: "", kind: "number" },
  { name: "waited_min", label: "Waited, at least (s)", hint: "", kind: "number" },
  { name: "worker", label: "Worker", hint: "id of a worker" },
  { name: "created_after", label: "Created after", hint: "", kind: "moment" },
  { name: "created_before", label: "Created before", hint: "", kind: "moment" },
];

const NAMES = ["status", ...FIELDS.map((field) => field.name)];
const SHORT = new Map([["state", "status"], ["type", "task_type"], ["conversation", "conversation_id"], ["error", "error_code"], ["attempts", "attempts_min"], ["waited", "waited_min"], ["after", "created_after"], ["before", "created_before"]]);
const ID = /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/i;

/** The filter in an address. @param {URLSearchParams} query @returns {Record<string, string>} */
export function filterOf(query) {
  return Object.fromEntries(NAMES.flatMap((name) => (query.get(name) ? [[name, query.get(name) ?? ""]] : [])));
}

/** A filter's name for people. @param {string} name */
export const labelOf = (name) => (name === "status" ? "State" : (FIELDS.find((field) => field.name === name)?.label ?? name));

/**
 * What was typed into the search: an id, or filters such as `model:llama3 state:failed`.
 * @param {string} text
 * @returns {{ id: string } | { filter: Record<string, string> } | { wrong: string }}
 */
export function read(text) {
  const words = text.match(/[a-z_]+:"[^"]*"|\S+/gi) ?? [];
  if (words.length === 1 && ID.test(words[0] ?? "")) return { id: (words[0] ?? "").toLowerCase() };
  /** @type {Record<string, string>} */
  const filter = {};
  for (const word of words) {
    const [typed = "", ...rest] = word.split(":");
    const name = SHORT.get(typed) ?? typed;
    const value = rest.join(":").replace(/^"|"$/g, "");
    if (!NAMES.includes(name) || !value) return { wrong: `“${word}” is neither an id nor one of ${NAMES.join(", ")} with a value` };
    filter[name] = name === "status" ? value.replace(" ", "_") : value;
  }
  return { filter };
}
