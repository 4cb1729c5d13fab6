// OpenAI's library for JavaScript as a client.  Arguments: the folder it is installed in (npm install openai),
// the address of a gateway that is open, and of one with keys.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { resolve } from "node:path";

const [folder, OPEN, KEYED] = process.argv.slice(2);
const require = createRequire(resolve(folder, "package.json"));
const OpenAI = require("openai").default ?? require("openai");

const client = new OpenAI({ baseURL: OPEN, apiKey: "none", maxRetries: 0 });
const PARIS = "The capital of France is Paris.";
const messages = [{ role: "user", content: "What is the capital of France?" }];
const q = { model: "atlas:q80", messages, temperature: 0 };

const whole = await client.chat.completions.create(q);
assert.equal(whole.choices[0].message.content, PARIS);
assert.equal(whole.choices[0].finish_reason, "stop");
assert.equal(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens);

let text = "", usage;
for await (const piece of await client.chat.completions.create({ ...q, stream: true, stream_options: { include_usage: true } })) {
    text += piece.choices[0]?.delta.content ?? "";
    usage = piece.usage ?? usage;
}
assert.equal(text, PARIS);
assert.equal(usage.completion_tokens, whole.usage.completion_tokens);

// the library's own gathering of a stream
const gathered = await client.chat.completions.stream({ ...q, logprobs: true, top_logprobs: 3 }).finalChatCompletion();
assert.equal(gathered.choices[0].message.content, PARIS);
const told = gathered.choices[0].logprobs.content;
assert.equal(told.map((t) => t.token).join(""), PARIS);
assert.ok(told.every((t) => t.top_logprobs.length === 3 && t.logprob <= 0 && t.top_logprobs[0].logprob === t.logprob));

const two = await client.chat.completions.create({ ...q, temperature: 1.5, seed: 3, n: 2, max_tokens: 20, frequency_penalty: 1, presence_penalty: -0.5 });
assert.equal(two.choices.length, 2);

assert.deepEqual((await client.models.list()).data.map((m) => m.id), ["atlas:q80"]);
const completion = await client.completions.create({ model: "atlas:q80", prompt: "The capital of France", temperature: 0, max_tokens: 4, logprobs: 2 });
assert.equal(completion.usage.completion_tokens, 4);
assert.equal(completion.choices[0].logprobs.tokens.join(""), completion.choices[0].text);

const answer = await client.responses.create({ model: "atlas:q80", input: messages[0].content, temperature: 0 });
assert.equal(answer.output_text, PARIS);
const last = await client.responses.stream({ model: "atlas:q80", input: messages, temperature: 0 }).finalResponse();
assert.equal(last.output_text, PARIS);
assert.equal(last.usage.output_tokens, answer.usage.output_tokens);
await assert.rejects(client.responses.create({ model: "atlas:q80", input: "hi", previous_response_id: "resp_1" }), (e) => e.param === "previous_response_id");

await assert.rejects(client.chat.completions.create({ ...q, logit_bias: { 5: 1 } }), (e) => e instanceof OpenAI.BadRequestError && e.param === "logit_bias");
await assert.rejects(client.chat.completions.create({ ...q, model: "gpt-5" }), (e) => e instanceof OpenAI.NotFoundError && e.code === "model_not_found");
await assert.rejects(new OpenAI({ baseURL: KEYED, apiKey: "wrong", maxRetries: 0 }).models.list(), OpenAI.AuthenticationError);

// a client that leaves in the middle
const cut = await client.chat.completions.create({ ...q, stream: true });
for await (const piece of cut) {
    if (piece.choices[0]?.delta.content) break;
}
cut.controller.abort();
assert.equal((await client.chat.completions.create(q)).choices[0].message.content, PARIS);
console.log("ok OpenAI's library for JavaScript");
