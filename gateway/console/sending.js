// What the playground sends: its form as the body of POST /v1/messages, and the same call for other clients.
import { address } from "./api.js";

/** @typedef {{ role: string, content: string }} Said */
/** @typedef {{ model: string, messages: Said[], options: Record<string, string> }} Draft */

/** Options of a message that the form has. @type {{ name: string, label: string, hint: string, step?: string, min?: string, max?: string, text?: boolean }[]} */
export const OPTIONS = [
  { name: "max_tokens", label: "Tokens, at most", hint: "the model's", min: "1", step: "1" },
  { name: "temperature", label: "Temperature", hint: "the model's", min: "0", max: "2", step: "0.1" },
  { name: "top_p", label: "Top p", hint: "the model's", min: "0", max: "1", step: "0.05" },
  { name: "seed", label: "Seed", hint: "none", step: "1" },
  { name: "priority", label: "Priority", hint: "5", min: "0", max: "9", step: "1" },
  { name: "conversation_id", label: "Conversation", hint: "a new one", text: true },
];

/** A key for a call that is to count once. Pages over http have no `randomUUID`. */
export function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((each) => each.toString(16).padStart(2, "0")).join("");
}

/** @type {Draft} */
export const EMPTY = { model: "", messages: [{ role: "user", content: "" }], options: {} };

/** Those that the form has. */
export const ROLES = ["system", "user", "assistant"];

/**
 * The messages of a request as a draft that goes on in its conversation; undefined where some of them are no texts.
 * @param {Api.RequestDetail} request
 * @returns {Draft | undefined}
 */
export function draftOf({ model, conversation_id: conversation, door, messages }) {
  if (!messages?.length || !messages.every((each) => ROLES.includes(each.role) && typeof each.content === "string")) return undefined;
  const said = messages.map(({ role, content }) => ({ role, content: String(content) }));
  // Chat completions have a conversation each, which nothing can go on in.
  return { model: model ?? "", messages: said, options: conversation && door !== "chat" ? { conversation_id: conversation } : {} };
}

const KEPT = "orchestra.playground";

/** What was in the form last. @returns {Draft} */
export function keptDraft() {
  try {
    return { ...EMPTY, ...JSON.parse(sessionStorage.getItem(KEPT) ?? "{}") };
  } catch {
    return EMPTY;
  }
}

/** @param {Draft} draft */
export function keepDraft(draft) {
  try {
    sessionStorage.setItem(KEPT, JSON.stringify(draft));
  } catch {
    // A browser that keeps nothing forgets it with the page.
  }
}

/** The body of the call. @param {Draft} draft @returns {Record<string, any>} */
export function bodyOf({ model, messages, options }) {
  const set = OPTIONS.flatMap(({ name, text }) => {
    const value = (options[name] ?? "").trim();
    return value ? [[name, text ? value : Number(value)]] : [];
  });
  const agent = model.startsWith("agent:") ? { agent: model.slice("agent:".length) } : model ? { model } : {};
  return { ...agent, messages: messages.filter((each) => each.content), ...Object.fromEntries(set) };
}

/** In a shell: send it, then follow it. @param {Record<string, any>} body @param {string} id */
export function curlOf(body, id) {
  const follow = location.origin + address("/v1/requests/{request_id}/events", { request_id: id || "ID" });
  return `curl -s ${location.origin}/v1/messages \\
  -H 'Content-Type: application/json' -H 'Prefer: respond-async' \\
  -d '${JSON.stringify(body, null, 2).replaceAll("'", "'\\''")}'

# its id is in the answer
curl -sN ${follow}`;
}

/** With the client of this project. @param {Record<string, any>} body */
export function clientOf(body) {
  const { messages, ...options } = body;
  const fields = Object.entries(options).map(([name, value]) => `, ${name}=${python(value)}`).join("");
  return `from orchestra.client import Client

with Client(${python(location.origin)}) as client:
    accepted = client.messages.submit(${python(messages, 1)}${fields})
    print(accepted.id)
    with client.requests.stream(accepted.id) as stream:
        for event in stream:
            if event.type == "delta":
                print(event.text, end="")
            elif event.type == "restart":  # a new attempt: discard what was printed
                print("\\n" + event.text, end="")`;
}

/** With OpenAI's library; fields that it does not know are in `extra_body`. @param {Record<string, any>} body */
export function openaiOf(body) {
  const { messages, model, agent, conversation_id: conversation, priority, ...options } = body;
  const fields = Object.entries(options).map(([name, value]) => `    ${name}=${python(value)},\n`).join("");
  const extra = priority === undefined ? "" : `    extra_body={"priority": ${priority}},\n`;
  const note = conversation ? "# Chat completions have no conversations: this is one of its own.\n" : "";
  return `from openai import OpenAI

client = OpenAI(base_url=${python(`${location.origin}/openai/v1`)}, api_key="orc_…")
${note}stream = client.chat.completions.create(
    model=${python(agent ? `agent:${agent}` : (model ?? "default"))},
    messages=${python(messages, 1)},
${fields}${extra}    stream=True,
)
for chunk in stream:
    if chunk.choices and chunk.choices[0].delta.content:
        print(chunk.choices[0].delta.content, end="")`;
}

/**
 * A value as Python writes it. JSON's texts are Python's, too.
 * @param {any} value
 * @param {number} depth
 * @returns {string}
 */
function python(value, depth = 0) {
  const pad = "    ".repeat(depth);
  if (value === null || value === undefined) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[\n${value.map((each) => `${pad}    ${python(each, depth + 1)},\n`).join("")}${pad}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${python(each, depth)}`).join(", ")}}`;
  return JSON.stringify(value);
}
