// Every call of Node's openai package that the server answers. Answers and events are held against
// the package's own TypeScript types, strictly, and may have no field beyond them but those that
// docs/http.md tells of. The model is that of test_openai_suite.py.
//
//   node openai_suite.mjs URL FOLDER     FOLDER: has node_modules with the packages
//
// Prints a line for each call, and ends with 1 if one was wrong.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const [url, folder] = process.argv.slice(2);
const require = createRequire(path.join(path.resolve(folder), 'here.js'));
const OpenAI = require('openai').default;
const Ajv = require('ajv').default;

// ---- types ----

async function makeValidators() {
    const source = path.join(folder, 'checked.ts');
    fs.writeFileSync(source, `import OpenAI from 'openai';
export interface Checked {
    chat: OpenAI.Chat.ChatCompletion; chunk: OpenAI.Chat.ChatCompletionChunk;
    text: OpenAI.Completion; embeddings: OpenAI.CreateEmbeddingResponse; model: OpenAI.Model;
    response: OpenAI.Responses.Response; event: OpenAI.Responses.ResponseStreamEvent;
}
`);
    const main = path.resolve(folder, 'node_modules/ts-json-schema-generator/dist/index.js');
    const { createGenerator } = await import(pathToFileURL(main));
    const schema = createGenerator({
        path: source, type: 'Checked', skipTypeCheck: true, additionalProperties: false,
    }).createSchema('Checked');
    const ajv = new Ajv({ strict: false, allErrors: true, verbose: true });
    ajv.addSchema(schema, 'types');
    const kinds = Object.keys(schema.definitions.Checked.properties);
    return Object.fromEntries(kinds.map((kind) => [
        kind, ajv.compile({ $ref: `types#/definitions/Checked/properties/${kind}` })]));
}

const validators = await makeValidators();

// Removes what docs/http.md adds, then the rest must be what the types say.
function strict(kind, value) {
    const rest = structuredClone(value);
    const about = rest.response ?? rest;
    for (const name of ['seed', 'timings', 'meta', 'store']) delete about[name];
    if (rest.response) rest.response.output_text ??= ''; // the package's own, and not in events
    for (const choice of rest.choices ?? []) {
        delete choice.token_ids;
        delete choice.prompt_token_ids;
        delete (choice.message ?? choice.delta ?? {}).reasoning_content;
        // As of OpenAI's own server, though the type of text completions knows whole answers only.
        if (kind === 'text') choice.finish_reason ??= 'stop';
    }
    delete rest._request_id;
    const isFine = validators[kind](rest);
    // Of a union each alternative complains; the deepest complaints are those of the right one.
    const errors = (validators[kind].errors ?? [])
        .sort((a, b) => b.instancePath.length - a.instancePath.length)
        .map((e) => `${e.instancePath} ${e.message} ${JSON.stringify(e.params)}`);
    const shown = JSON.stringify(rest).slice(0, 300);
    assert.ok(isFine, [shown, ...errors.slice(0, 5)].join('\n'));
    return value;
}

// ---- calls ----

const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });
const HELLO = 'Hello, 世界! What can I do for you today?';
const tool = (name) => ({
    type: 'function', function: { name, parameters: { type: 'object', properties: {} } },
});
const schema = {
    type: 'object', properties: { ok: { type: 'boolean' } }, required: ['ok'],
    additionalProperties: false,
};
const format = { type: 'json_schema', json_schema: { name: 'it', schema, strict: true } };
const ask = (text, how) => ({
    model: 'scripted', messages: [{ role: 'user', content: text }], max_tokens: 200, seed: 1,
    ...how,
});
const says = (text) => (a) => assert.equal(a.choices[0].message.content, text);
const calls = (...cities) => (a) => {
    assert.equal(a.choices[0].finish_reason, 'tool_calls');
    assert.deepEqual(a.choices[0].message.tool_calls
        .map((c) => JSON.parse(c.function.arguments).city), cities);
};

const flat = (name) => ({ type: 'function', strict: false, ...tool(name).function });
const called = (...cities) => (r) => assert.deepEqual(
    r.output.filter((i) => i.type === 'function_call').map((i) => JSON.parse(i.arguments).city),
    cities);

const chats = [
    ['A', {}, says(HELLO)],
    ['A', { temperature: 0 }, says(HELLO)],
    ['A', { temperature: 2, seed: 7 }, says(HELLO)],
    ['A', { top_p: 0.5, presence_penalty: 1, frequency_penalty: 1 }, says(HELLO)],
    ['A', { n: 3 }, (a) => assert.equal(a.choices.length, 3)],
    ['A', { seed: 11 }, (a) => assert.equal(a.seed, 11)],
    ['A', { max_tokens: 3 }, (a) => assert.equal(a.usage.completion_tokens, 3)],
    ['A', { max_completion_tokens: 2 }, (a) => assert.equal(a.choices[0].finish_reason, 'length')],
    ['A', { stop: '世界' }, says('Hello, ')],
    ['A', { stop: ['no', 'What'] }, says('Hello, 世界! ')],
    ['A', { logit_bias: { 65: -100 } }, says(HELLO)],
    ['A', { logprobs: true }, (a) => assert.ok(a.choices[0].logprobs.content.length > 5)],
    ['A', { logprobs: true, top_logprobs: 3 },
        (a) => assert.equal(a.choices[0].logprobs.content[0].top_logprobs.length, 3)],
    ['A', { user: 'me', metadata: { a: 'b' }, store: false }, says(HELLO)],
    ['A', { response_format: { type: 'text' } }, says(HELLO)],
    ['A', { response_format: format },
        (a) => assert.equal(typeof JSON.parse(a.choices[0].message.content).ok, 'boolean')],
    ['A', { guided_choice: ['yes', 'no'] },
        (a) => assert.ok(['yes', 'no'].includes(a.choices[0].message.content))],
    ['A', { top_k: 5, min_p: 0.1, repetition_penalty: 1.1, priority: 3 }, says(HELLO)],
    ['A', { return_token_ids: true }, (a) => assert.ok(a.choices[0].token_ids.length)],
    ['B', { tools: [tool('weather')] }, calls('Rome', 'Paris')],
    ['B', { tools: [tool('weather')], tool_choice: 'none' },
        (a) => assert.ok(a.choices[0].message.content.includes('<tool_call>'))],
    ['B', { tools: [tool('weather')], parallel_tool_calls: false }, calls('Rome')],
    ['B', { tools: [tool('weather'), tool('clock')], tool_choice: 'required' }, calls('Oslo')],
    ['B', { tools: [tool('weather'), tool('clock')],
        tool_choice: { type: 'function', function: { name: 'weather' } } }, calls('Bern')],
    ['E', { tools: [tool('weather')] },
        (a) => assert.ok(a.choices[0].message.content.includes('broken'))],
    ['C', {}, (a) => { says('Good morning.')(a);
        assert.ok(a.choices[0].message.reasoning_content.includes('greet')); }],
    ['C', { reasoning_effort: 'none' }, says('Good morning.')],
    ['', { messages: [{ role: 'system', content: 'Be brief.' }, { role: 'user', content: 'A' }] },
        says(HELLO)],
    ['', { messages: [{ role: 'developer', content: 'x' }, { role: 'user', content: 'A' }] },
        says(HELLO)],
    ['', { messages: [{ role: 'user', content: [{ type: 'text', text: 'A' }] }] }, says(HELLO)],
];

const streams = [
    ['A', {}], ['A', { n: 2 }], ['A', { max_tokens: 4 }], ['A', { stop: ['What'] }],
    ['A', { logprobs: true, top_logprobs: 2 }], ['A', { response_format: format }],
    ['A', { stream_options: { include_usage: true } }], ['C', {}], ['E', { tools: [tool('a')] }],
    ['B', { tools: [tool('weather')] }],
    ['B', { tools: [tool('weather'), tool('clock')], tool_choice: 'required' }],
];

const texts = [
    [{ prompt: 'A' }, (a) => assert.equal(a.choices[0].text, HELLO)],
    [{ prompt: ['A', 'D'] }, (a) => assert.equal(a.choices.length, 2)],
    [{ prompt: [65] }, (a) => assert.equal(a.choices[0].text, HELLO)],
    [{ prompt: 'A', echo: true }, (a) => assert.equal(a.choices[0].text, `A${HELLO}`)],
    [{ prompt: 'A', logprobs: 2 }, (a) => assert.ok(a.choices[0].logprobs.tokens.length > 5)],
    [{ prompt: 'A', n: 2 }, (a) => assert.equal(a.choices.length, 2)],
    [{ prompt: 'A', stop: '!' }, (a) => assert.equal(a.choices[0].text, 'Hello, 世界')],
    [{ prompt: 'A', max_tokens: 2 }, (a) => assert.equal(a.choices[0].finish_reason, 'length')],
];

const responses = [
    [{ input: 'A' }, (r) => assert.equal(r.output_text, HELLO)],
    [{ input: 'A', instructions: 'Be brief.' }, (r) => assert.equal(r.status, 'completed')],
    [{ input: [{ role: 'user', content: 'A' }] }, (r) => assert.equal(r.output_text, HELLO)],
    [{ input: 'A', max_output_tokens: 3 }, (r) => assert.equal(r.status, 'incomplete')],
    [{ input: 'C' }, (r) => assert.equal(r.output_text, 'Good morning.')],
    [{ input: 'B', tools: [flat('weather')] }, called('Rome', 'Paris')],
    [{ input: 'B', tools: [flat('weather')], tool_choice: { type: 'function', name: 'weather' } },
        called('Bern')],
    [{ input: 'B', tools: [flat('weather'), flat('clock')], tool_choice: 'required' },
        called('Oslo')],
];

const embeddings = [
    { input: 'A' }, { input: ['A', 'D'] }, { input: [65] }, { input: 'A', dimensions: 100 },
    { input: 'A', encoding_format: 'float' },
];

const refused = [
    [{ model: 'gpt-4' }, 404], [{ temperature: 9 }, 400], [{ messages: [] }, 400],
    [{ messages: [{ role: 'king', content: 'x' }] }, 400], [{ n: 99 }, 400],
    [{ tool_choice: 'required' }, 400],
];

// ---- running them ----

let n = 0, failures = 0;
async function run(name, body) {
    n++;
    try {
        await body();
        console.log(`ok ${n} ${name}`);
    } catch (error) {
        failures++;
        console.log(`not ok ${n} ${name}\n${error.stack ?? error}`);
    }
}

function putTogether(chunks, index) {
    const all = chunks.flatMap((c) => c.choices).filter((c) => c.index === index);
    return {
        content: all.map((c) => c.delta.content ?? '').join(''),
        calls: all.flatMap((c) => c.delta.tool_calls ?? []).map((c) => c.function),
        finish: all.at(-1).finish_reason,
    };
}

async function collect(stream, kind) {
    const found = [];
    for await (const item of stream) found.push(strict(kind, item));
    return found;
}

for (const [text, how, check] of chats)
    await run(`chat ${text} ${JSON.stringify(how)}`, async () =>
        check(strict('chat', await client.chat.completions.create(ask(text, how)))));
for (const [text, how] of streams)
    await run(`stream ${text} ${JSON.stringify(how)}`, async () => {
        const { stream_options: options, ...plain } = { ...how, seed: 1 };
        const whole = await client.chat.completions.create(ask(text, plain));
        const chunks = await collect(await client.chat.completions.create(
            ask(text, { ...how, seed: 1, stream: true })), 'chunk');
        for (const choice of whole.choices)
            assert.deepEqual(putTogether(chunks, choice.index), {
                content: choice.message.content ?? '',
                calls: (choice.message.tool_calls ?? []).map((c) => c.function),
                finish: choice.finish_reason,
            });
        if (options) assert.equal(chunks.at(-1).usage.total_tokens, whole.usage.total_tokens);
    });
for (const [how, check] of texts)
    await run(`completion ${JSON.stringify(how)}`, async () => {
        const body = { model: 'scripted', max_tokens: 100, ...how };
        const whole = strict('text', await client.completions.create(body));
        check(whole);
        const chunks = await collect(await client.completions.create({ ...body, stream: true }),
            'text');
        assert.equal(chunks.flatMap((c) => c.choices).filter((c) => c.index === 0)
            .map((c) => c.text).join(''), whole.choices[0].text);
    });
for (const [how, check] of responses)
    await run(`response ${JSON.stringify(how)}`, async () => {
        const { data, response } = await client.responses.create({ model: 'scripted', ...how })
            .withResponse();
        assert.ok(response.headers.get('x-request-id'));
        check(data);
        strict('response', data);
        await collect(await client.responses.create({ model: 'scripted', ...how, stream: true }),
            'event');
    });
for (const how of embeddings)
    await run(`embeddings ${JSON.stringify(how)}`, async () => {
        const answer = strict('embeddings',
            await client.embeddings.create({ model: 'scripted', ...how }));
        for (const item of answer.data)
            assert.ok(Math.abs(item.embedding.reduce((s, x) => s + x * x, 0) - 1) < 1e-5);
    });
await run('models', async () => {
    for await (const model of client.models.list()) strict('model', model);
    assert.equal(strict('model', await client.models.retrieve('scripted')).id, 'scripted');
});
for (const [how, status] of refused)
    await run(`refused ${JSON.stringify(how)}`, () => assert.rejects(
        client.chat.completions.create(ask('A', how)),
        (e) => e.status === status && typeof e.error.message === 'string' && !!e.requestID));
console.log(`${n} calls, ${failures} wrong`);
process.exit(failures ? 1 : 0);
