// Asks the openai family and the anthropic family for everything, and prints what the SDKs made of it, a line each.
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const env = process.env;
const options = { apiKey: env.CALLERS_KEY, maxRetries: 0 };
const openai = new OpenAI({ ...options, baseURL: env.OPENAI_URL });
const anthropic = new Anthropic({ ...options, baseURL: env.ANTHROPIC_URL });

const gpt = env.OPENAI_MODEL;
const claude = env.ANTHROPIC_MODEL;
const messages = [{ role: "user", content: "Why do trains need points? Übergänge, 渡り線 🚂" }];
const schema = { type: "object", properties: { station: { type: "string" } }, required: ["station"] };

const functions = [{ type: "function", function: { name: "departures", parameters: schema } }];
const called = [
  ...messages,
  {
    role: "assistant",
    content: null,
    tool_calls: [{ id: "call_1", type: "function", function: { name: "departures", arguments: '{"station":"Ur"}' } }],
  },
  { role: "tool", tool_call_id: "call_1", content: "none today" },
];
const tools = [{ name: "departures", description: "When trains leave", input_schema: schema }];
const used = [
  ...messages,
  { role: "assistant", content: [{ type: "tool_use", id: "toolu_1", name: "departures", input: { station: "Ur" } }] },
  { role: "user", content: [{ type: "tool_result", tool_use_id: "toolu_1", content: "none today" }] },
];

const all = async (stream) => {
  const events = [];
  for await (const event of await stream) events.push(event);
  return events;
};

const calls = {
  chat: () => openai.chat.completions.create({ model: gpt, messages }),
  "chat, streamed": () =>
    all(openai.chat.completions.create({ model: gpt, messages, stream: true, stream_options: { include_usage: true } })),
  "chat, tools": () => openai.chat.completions.create({ model: gpt, messages: called, tools: functions }),
  "chat, helper": () => openai.chat.completions.stream({ model: gpt, messages }).finalChatCompletion(),
  responses: () => openai.responses.create({ model: gpt, input: "hi" }),
  "responses, streamed": () => all(openai.responses.create({ model: gpt, input: "hi", stream: true })),
  embeddings: () => openai.embeddings.create({ model: gpt, input: ["one", "two"] }),
  "an error": () => openai.responses.create({ model: gpt, input: "hi", max_output_tokens: 1 }),
  messages: () => anthropic.messages.create({ model: claude, max_tokens: 64, messages }),
  "messages, streamed": () => all(anthropic.messages.create({ model: claude, max_tokens: 64, messages, stream: true })),
  "messages, helper": () => anthropic.messages.stream({ model: claude, max_tokens: 64, messages }).finalMessage(),
  "messages, tools": () => anthropic.messages.create({ model: claude, max_tokens: 64, messages: used, tools }),
  "messages, beta": () =>
    anthropic.beta.messages.create({
      model: claude,
      max_tokens: 64,
      messages,
      betas: ["context-1m-2025-08-07", "interleaved-thinking-2025-05-14"],
    }),
  "count_tokens": () => anthropic.messages.countTokens({ model: claude, messages }),
  "another error": () => anthropic.messages.create({ model: claude, max_tokens: 0, messages }),
};

for (const [call, ask] of Object.entries(calls)) {
  let got;
  try {
    got = await ask();
  } catch (error) {
    got = { failed: error.constructor.name, status: error.status, message: error.message };
  }
  console.log(JSON.stringify({ call, got }));
}
