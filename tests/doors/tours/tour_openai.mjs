// The calls of the door by OpenAI's own library for JavaScript. Answers are checked in the tour in Python.
import OpenAI, { toFile } from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

import { check, DOOR, ENDLESS, holds, KEY, MODEL, rejected, run, same, SLOW } from "./checks.mjs";

const client = new OpenAI({ baseURL: DOOR, apiKey: KEY });
const City = z.object({ city: z.string(), people: z.int().min(0) });
const asked = (content) => [{ role: "user", content }];
const parameters = {
  type: "object",
  properties: { city: { type: "string", enum: ["Oslo", "Lima"] } },
  required: ["city"],
  additionalProperties: false,
};
const chatTool = { type: "function", function: { name: "weather", parameters } };
const tool = { type: "function", name: "weather", parameters, strict: true };

async function all(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return parts;
}

check("models.list, models.retrieve", async () => {
  const names = (await all(await client.models.list())).map((model) => model.id);
  holds(names.includes(MODEL), `${MODEL} is not in ${names}`);
  same(MODEL, (await client.models.retrieve(MODEL)).id);
});

check("chat.completions.create", async () => {
  const answer = await client.chat.completions.create({ model: MODEL, messages: asked("Hello") });
  same(["echo: Hello", "stop"], [answer.choices[0].message.content, answer.choices[0].finish_reason]);
  holds(answer._request_id, "no request id");
  const { response } = await client.chat.completions.create({ model: MODEL, messages: asked("Hi") }).withResponse();
  holds(response.headers.get("x-request-id"), "no x-request-id");
});

check("chat.completions.create, stream", async () => {
  const body = { model: MODEL, messages: asked("Hello there"), stream: true, stream_options: { include_usage: true } };
  const chunks = await all(await client.chat.completions.create(body));
  same("echo: Hello there", chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join(""));
  holds(chunks.at(-1).usage.total_tokens > 0, "no usage");
});

check("chat.completions.stream", async () => {
  const runner = client.chat.completions.stream({ model: MODEL, messages: asked("call weather"), tools: [chatTool] });
  const calls = [];
  runner.on("tool_calls.function.arguments.done", (event) => calls.push([event.name, event.arguments]));
  same("tool_calls", (await runner.finalChatCompletion()).choices[0].finish_reason);
  same([["weather", '{"city": "Oslo"}']], calls);
});

check("chat.completions.runTools", async () => {
  const runner = client.chat.completions.runTools({
    model: MODEL,
    messages: asked("Please call weather."),
    tools: [{ type: "function", function: { name: "weather", parameters, parse: JSON.parse, function: (each) => `rain in ${each.city}` } }],
  });
  same("weather: rain in Oslo", await runner.finalContent());
});

check("chat.completions.parse", async () => {
  const format = zodResponseFormat(City, "city");
  const answer = await client.chat.completions.parse({ model: MODEL, messages: asked("Hi"), response_format: format });
  same({ city: "", people: 0 }, answer.choices[0].message.parsed);
});

check("responses.create", async () => {
  const answer = await client.responses.create({ model: MODEL, input: "Hello" });
  same(["completed", "echo: Hello"], [answer.status, answer.output_text]);
  const next = await client.responses.create({ model: MODEL, input: "Next", previous_response_id: answer.id });
  same(["echo: Next", answer.id], [next.output_text, next.previous_response_id]);
});

check("responses.create, tools", async () => {
  const input = asked("Please call weather.");
  const first = await client.responses.create({ model: MODEL, input, tools: [tool] });
  const result = { type: "function_call_output", call_id: first.output[0].call_id, output: "rain" };
  const second = await client.responses.create({ model: MODEL, input: [...input, ...first.output, result], tools: [tool] });
  same("weather: rain", second.output_text);
});

check("responses.create, stream", async () => {
  const events = await all(await client.responses.create({ model: MODEL, input: "Hello there", stream: true }));
  same("response.created", events[0].type);
  same("response.completed", events.at(-1).type);
  const deltas = events.filter((event) => event.type === "response.output_text.delta");
  same("echo: Hello there", deltas.map((event) => event.delta).join(""));
});

check("responses.stream", async () => {
  const stream = client.responses.stream({ model: MODEL, input: "Hello there" });
  const texts = [];
  stream.on("response.output_text.delta", (event) => texts.push(event.snapshot));
  same("echo: Hello there", (await stream.finalResponse()).output_text);
  same("echo: Hello there", texts.at(-1));
});

check("responses.parse", async () => {
  const answer = await client.responses.parse({ model: MODEL, input: "Hi", text: { format: zodTextFormat(City, "city") } });
  same({ city: "", people: 0 }, answer.output_parsed);
});

check("responses.stream, resumed by its id", async () => {
  const stream = await client.responses.create({ model: SLOW, input: "Hi", background: true, stream: true });
  const seen = [];
  for await (const event of stream) {
    seen.push(event);
    if (event.type === "response.output_text.delta") break;
  }
  const rest = client.responses.stream({ response_id: seen[0].response.id, starting_after: seen.at(-1).sequence_number });
  seen.push(...(await all(rest)));
  same(seen.map((_, place) => place), seen.map((event) => event.sequence_number), "sequence numbers");
  same("response.completed", seen.at(-1).type);
});

check("responses.retrieve, cancel, delete, inputItems.list", async () => {
  const made = await client.responses.create({ model: ENDLESS, input: "Hi", background: true });
  await client.responses.cancel(made.id);
  let found = made;
  while (["queued", "in_progress"].includes(found.status)) found = await client.responses.retrieve(made.id);
  same("cancelled", found.status);
  const items = await all(await client.responses.inputItems.list(made.id));
  same(["Hi"], items.map((item) => item.content[0].text));
  await client.responses.delete(made.id);
  same(404, (await rejected(client.responses.retrieve(made.id), "a deleted response")).status);
});

check("conversations", async () => {
  const talk = await client.conversations.create({ metadata: { a: "b" } });
  await client.responses.create({ model: MODEL, input: "One", conversation: talk.id });
  const items = await all(await client.conversations.items.list(talk.id, { order: "asc" }));
  same(["One", "echo: One"], items.map((item) => item.content[0].text));
  same(true, (await client.conversations.delete(talk.id)).deleted);
});

check("files", async () => {
  const made = await client.files.create({ file: await toFile(Buffer.from("hello"), "note.txt"), purpose: "user_data" });
  same(["note.txt", 5], [made.filename, made.bytes]);
  same("hello", await (await client.files.content(made.id)).text());
  same(true, (await client.files.delete(made.id)).deleted);
});

check("errors", async () => {
  const create = (body) => client.chat.completions.create({ model: MODEL, messages: asked("Hi"), ...body });
  const unknown = await rejected(create({ model: "unheard-of" }), "an unknown model");
  same([404, "model_not_found", true], [unknown.status, unknown.code, unknown instanceof OpenAI.NotFoundError]);
  const twice = await rejected(create({ n: 2 }), "n=2");
  same([400, "n"], [twice.status, twice.param]);
  holds(twice.requestID, "no request id in an error");
  const wrong = new OpenAI({ baseURL: DOOR, apiKey: "orc_wrong_0" });
  same(401, (await rejected(wrong.models.list(), "a wrong key")).status);
});

await run();
