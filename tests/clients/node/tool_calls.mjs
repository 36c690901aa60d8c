// Has tools called with the Node SDKs of both families and gives their results back; prints what came of it, a line each.
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const env = process.env;
const options = { apiKey: env.CALLERS_KEY, maxRetries: 0 };
const openai = new OpenAI({ ...options, baseURL: env.OPENAI_URL });
const anthropic = new Anthropic({ ...options, baseURL: env.ANTHROPIC_URL });

const messages = [{ role: "user", content: "When do trains leave? Übergänge, 渡り線 🚂" }];
const properties = { station: { type: "string" }, platform: { type: "integer", minimum: 1 } };
const schema = { type: "object", properties, required: Object.keys(properties), additionalProperties: false };
const names = ["departures", "delays"];
const result = "none today";

const gpt = { model: env.OPENAI_MODEL };
const functions = names.map((name) => ({ type: "function", function: { name, strict: true, parameters: schema } }));
const flat = names.map((name) => ({ type: "function", name, strict: true, parameters: schema }));
const claude = { model: env.ANTHROPIC_MODEL, max_tokens: 64 };
const tools = names.map((name) => ({ name, input_schema: schema }));

const apis = {
  chat: {
    any: "required",
    one: { type: "function", function: { name: "delays" } },
    ask: (more) => openai.chat.completions.create({ ...gpt, tools: functions, messages, ...more }),
    grown: (choice) =>
      openai.chat.completions.stream({ ...gpt, tools: functions, messages, tool_choice: choice }).finalChatCompletion(),
    after(answer) {
      const said = answer.choices[0].message;
      const results = said.tool_calls.map((call) => ({ role: "tool", tool_call_id: call.id, content: result }));
      return this.ask({ messages: [...messages, said, ...results] });
    },
    used: (answer) =>
      (answer.choices[0].message.tool_calls ?? []).map((call) => [
        call.function.name,
        JSON.parse(call.function.arguments),
      ]),
  },
  responses: {
    any: "required",
    one: { type: "function", name: "delays" },
    ask: (more) => openai.responses.create({ ...gpt, tools: flat, input: messages, ...more }),
    grown: (choice) =>
      openai.responses.stream({ ...gpt, tools: flat, input: messages, tool_choice: choice }).finalResponse(),
    after(answer) {
      const results = answer.output.map((item) => ({
        type: "function_call_output",
        call_id: item.call_id,
        output: result,
      }));
      return this.ask({ input: results, previous_response_id: answer.id });
    },
    used: (answer) =>
      answer.output
        .filter((item) => item.type === "function_call")
        .map((item) => [item.name, JSON.parse(item.arguments)]),
  },
  messages: {
    any: { type: "any" },
    one: { type: "tool", name: "delays" },
    ask: (more) => anthropic.messages.create({ ...claude, tools, messages, ...more }),
    grown: (choice) => anthropic.messages.stream({ ...claude, tools, messages, tool_choice: choice }).finalMessage(),
    after(answer) {
      const results = answer.content.map((block) => ({ type: "tool_result", tool_use_id: block.id, content: result }));
      const said = [
        { role: "assistant", content: answer.content },
        { role: "user", content: results },
      ];
      return this.ask({ messages: [...messages, ...said] });
    },
    used: (answer) =>
      answer.content.filter((block) => block.type === "tool_use").map((block) => [block.name, block.input]),
  },
};

const told = (call, got, used) => console.log(JSON.stringify({ call, got, used }));

for (const [name, api] of Object.entries(apis)) {
  for (const choice of ["any", "one"]) {
    let answer = await api.ask({ tool_choice: api[choice] });
    told(`${name}, ${choice}`, answer, api.used(answer));
    const events = [];
    for await (const event of await api.ask({ tool_choice: api[choice], stream: true })) events.push(event);
    told(`${name}, ${choice}, streamed`, events, []);
    answer = await api.grown(api[choice]);
    told(`${name}, ${choice}, grown`, answer, api.used(answer));
    answer = await api.after(answer);
    told(`${name}, ${choice}, after`, answer, api.used(answer));
  }
}
