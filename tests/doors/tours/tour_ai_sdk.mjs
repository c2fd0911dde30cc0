// Vercel's AI SDK, which holds answers against schemas of its own: by responses, its default, and by chat.
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

import { check, DOOR, ENDLESS, holds, KEY, MODEL, rejected, run, same } from "./checks.mjs";

const openai = createOpenAI({ baseURL: DOOR, apiKey: KEY });
const byResponses = openai("simulated");
const byChat = openai.chat("simulated");

const weather = tool({
  description: "The weather in a city.",
  inputSchema: z.object({ city: z.enum(["Oslo", "Lima"]) }),
  execute: async ({ city }) => `rain in ${city}`,
});
const PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC";

for (const [api, model, named] of [
  ["responses", byResponses, (name) => openai(name)],
  ["chat", byChat, (name) => openai.chat(name)],
]) {
  check(`generateText by ${api}`, async () => {
    const answer = await generateText({ model, system: "Be brief.", prompt: "Hello" });
    same(["echo: Hello", "stop"], [answer.text, answer.finishReason]);
    holds(answer.usage.inputTokens > 0 && answer.usage.outputTokens > 0, "no usage");
    same(MODEL, answer.response.modelId);
    same([], answer.warnings ?? []);
  });

  check(`streamText by ${api}`, async () => {
    const errors = [];
    const answer = streamText({ model, prompt: "Hello there", onError: ({ error }) => errors.push(error) });
    let text = "";
    for await (const part of answer.textStream) text += part;
    same([], errors);
    same("echo: Hello there", text);
    same("stop", await answer.finishReason);
    holds((await answer.usage).totalTokens > 0, "no usage");
  });

  check(`generateText by ${api}, a loop with a tool`, async () => {
    const answer = await generateText({ model, prompt: "Please call weather.", tools: { weather }, stopWhen: stepCountIs(5) });
    same([2, "weather: rain in Oslo"], [answer.steps.length, answer.text]);
    same(["weather"], answer.steps[0].toolCalls.map((call) => call.toolName));
  });

  check(`streamText by ${api}, a loop with a tool`, async () => {
    const errors = [];
    const answer = streamText({ model, prompt: "Please call weather.", tools: { weather }, stopWhen: stepCountIs(5), onError: ({ error }) => errors.push(error) });
    same("weather: rain in Oslo", await answer.text);
    same([], errors);
    same(2, (await answer.steps).length);
  });

  check(`generateText by ${api}, several turns`, async () => {
    const first = await generateText({ model, messages: [{ role: "user", content: "One" }] });
    const messages = [{ role: "user", content: "One" }, ...first.response.messages, { role: "user", content: "Two" }];
    same("echo: Two", (await generateText({ model, messages })).text);
  });

  check(`generateText by ${api}, an object`, async () => {
    const output = Output.object({ schema: z.object({ city: z.string(), people: z.int().min(0) }) });
    const answer = await generateText({ model, output, prompt: "Hi" });
    same({ city: "", people: 0 }, answer.output);
  });

  check(`generateText by ${api}, an image`, async () => {
    const content = [{ type: "text", text: "What is this?" }, { type: "image", image: Buffer.from(PNG, "base64") }];
    const answer = await generateText({ model, messages: [{ role: "user", content }] });
    holds(answer.text.startsWith("echo: What is this?"), answer.text);
  });

  check(`generateText by ${api}, cut`, async () => {
    const answer = await generateText({ model: named("simulated:tokens=40"), prompt: "Hi", maxOutputTokens: 16 });
    same("length", answer.finishReason);
  });

  check(`streamText by ${api}, left`, async () => {
    const left = new AbortController();
    const answer = streamText({ model: named(ENDLESS), prompt: "Hi", abortSignal: left.signal, onError: () => {} });
    for await (const part of answer.fullStream) {
      if (part.type === "text-delta") left.abort();
      if (part.type === "abort") return;
    }
    throw new Error("it was not told that it was left");
  });

  check(`generateText by ${api}, a failure is not repeated`, async () => {
    const error = await rejected(generateText({ model: named("simulated:fail=content_filter"), prompt: "Hi" }), "a failure");
    holds(error.statusCode >= 400 && !error.isRetryable, `${error.name} ${error.statusCode}`);
  });

  check(`streamText by ${api}, a failure is an error`, async () => {
    const errors = [];
    const answer = streamText({ model: named("simulated:fail=content_filter"), prompt: "Hi", onError: ({ error }) => errors.push(error) });
    await answer.consumeStream();
    holds(errors.length > 0, "no error");
  });
}

check("generateText by responses, previousResponseId", async () => {
  const first = await generateText({ model: byResponses, prompt: "One" });
  const previousResponseId = first.providerMetadata.openai.responseId;
  const answer = await generateText({ model: byResponses, prompt: "Two", providerOptions: { openai: { previousResponseId } } });
  same("echo: Two", answer.text);
});

check("generateText by responses, store: false", async () => {
  const providerOptions = { openai: { store: false } };
  const first = await generateText({ model: byResponses, prompt: "Please call weather.", tools: { weather }, stopWhen: stepCountIs(5), providerOptions });
  same("weather: rain in Oslo", first.text);
});

check("generateText by responses, conversation", async () => {
  const made = await fetch(`${DOOR}/conversations`, {
    method: "POST",
    headers: { authorization: `Bearer ${KEY}`, "content-type": "application/json" },
    body: "{}",
  });
  const conversation = (await made.json()).id;
  const answer = await generateText({ model: byResponses, prompt: "Hi", providerOptions: { openai: { conversation } } });
  same("echo: Hi", answer.text);
});

check("streamText by responses, reasoning", async () => {
  const errors = [];
  const providerOptions = { openai: { reasoningSummary: "auto" } };
  const answer = streamText({ model: openai("simulated:reasoning=3"), prompt: "Hi", providerOptions, onError: ({ error }) => errors.push(error) });
  same("echo: Hi", await answer.text);
  same([], errors);
});

check("generateText, a call that waits too long is not repeated", async () => {
  const error = await rejected(generateText({ model: openai.chat("simulated:latency_ms=22000"), prompt: "Hi" }), "a late call");
  same([424, false], [error.statusCode, error.isRetryable]);
});


await run();
