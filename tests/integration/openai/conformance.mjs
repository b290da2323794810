// SPDX-License-Identifier: MIT
// The official client against the Responses API of the gateway (responses-api §11).
//
// Environment: BASE_URL (…/v1), OPENAI_API_KEY (any text where no key is configured), MODEL (an agent that answers).
// Checks that need an agent that fails or hangs on demand run when FAIL_INPUT, HANG_INPUT, SCHEMA_INPUT name a text
// that makes it do so, that of a full queue when QUEUE_LIMIT says how many turns may wait. Prints one line a check and
// exits with 1 if one of them failed.

import assert from 'node:assert/strict';
import OpenAI, {
  APIError, AuthenticationError, BadRequestError, ConflictError, NotFoundError, PermissionDeniedError, RateLimitError,
} from 'openai';
import { eventTypes, problems, record, recordEvent } from './types.mjs';

const baseURL = process.env.BASE_URL ?? process.env.OPENAI_BASE_URL ?? process.argv[2] ?? 'http://127.0.0.1:7011/v1';
const model = process.env.MODEL ?? process.argv[3] ?? 'manager';
const plain = { baseURL, apiKey: process.env.OPENAI_API_KEY ?? 'none', maxRetries: 0 };

// Everything that comes is kept, to be compared with the types of the package.
function keep(value) {
  if (value?.object === 'response' && !value.deleted) record('R.Response', value);
  else if (value?.object === 'model') record('M.Model', value);
  else if (value?.object === 'list' && value.data?.[0]?.object === 'model') value.data.forEach(keep);
  else if (value?.object === 'chat.completion') record('C.ChatCompletion', value);
  else if (value?.object === 'list') record('I.ResponseItemList', value);
}

const client = new OpenAI({
  ...plain,
  fetch: async (...args) => {
    const answer = await fetch(...args);
    assert.match(answer.headers.get('x-request-id'), /^req_[0-9a-f]{32}$/);
    if (answer.ok && answer.headers.get('content-type')?.startsWith('application/json'))
      answer.clone().json().then(keep);
    return answer;
  },
});
const input = process.env.INPUT ?? 'Say hello. [[reply: hello to you]]';

let failed = 0;

async function check(name, run) {
  try {
    await run();
    console.log(`ok ${name}`);
  } catch (error) {
    failed = 1;
    console.log(`not ok ${name}: ${String(error?.message ?? error).replaceAll('\n', ' ')}`);
  }
}

async function collect(stream) {
  const events = [];
  for await (const event of stream) {
    recordEvent(event);
    events.push(event);
  }
  return events;
}

function assertSequence(events) {
  assert.deepEqual(events.map((e) => e.sequence_number), events.map((_, i) => i));
}

await check('create gives output_text and a request id', async () => {
  const response = await client.responses.create({ model, input });
  assert.equal(response.status, 'completed');
  assert.equal(response.object, 'response');
  assert.equal(response.model, model);
  assert.ok(response.output_text.length > 0);
  assert.match(response._request_id, /^req_[0-9a-f]{32}$/);
  assert.equal(response.usage.total_tokens, response.usage.input_tokens + response.usage.output_tokens);
});

await check('retrieve, input items, delete, then not found', async () => {
  const response = await client.responses.create({ model, input, metadata: { a: 'b' } });
  const again = await client.responses.retrieve(response.id);
  assert.equal(again.output_text, response.output_text);
  assert.deepEqual(again.metadata, { a: 'b' });
  const items = [];
  for await (const item of client.responses.inputItems.list(response.id)) items.push(item);
  assert.equal(items.length, 1);
  assert.equal(items[0].content[0].text, input);
  await client.responses.delete(response.id);
  await assert.rejects(client.responses.retrieve(response.id), NotFoundError);
  await assert.rejects(client.responses.delete(response.id), NotFoundError);
});

await check('input items come in pages', async () => {
  const texts = ['one', 'two', 'three', 'four', 'five'];
  const response = await client.responses.create({
    model, input: [...texts.map((content) => ({ role: 'user', content })), { role: 'user', content: input }],
  });
  const items = [];
  for await (const item of client.responses.inputItems.list(response.id, { limit: 2, order: 'asc' })) items.push(item);
  assert.deepEqual(items.map((i) => i.content[0].text), [...texts, input]);
});

await check('models', async () => {
  const ids = [];
  for await (const m of client.models.list()) ids.push(m.id);
  assert.ok(ids.includes(model));
  assert.equal((await client.models.retrieve(model)).object, 'model');
  await assert.rejects(client.models.retrieve('nobody_here'), NotFoundError);
});

await check('a stream has the events of a plain answer, in order', async () => {
  const events = await collect(await client.responses.create({ model, input, stream: true }));
  assertSequence(events);
  const types = events.map((e) => e.type.replace(/^response\./, ''));
  const deltas = types.filter((t) => t === 'output_text.delta').length;
  assert.ok(deltas > 0);
  assert.deepEqual(types.filter((t) => t !== 'queued'), [
    'created', 'in_progress', 'output_item.added', 'content_part.added', ...Array(deltas).fill('output_text.delta'),
    'output_text.done', 'content_part.done', 'output_item.done', 'completed',
  ]);
  const text = events.filter((e) => e.type === 'response.output_text.delta').map((e) => e.delta).join('');
  assert.equal(text, events.at(-1).response.output[0].content[0].text);
});

await check('the stream helper collects the response', async () => {
  const stream = client.responses.stream({ model, input });
  const response = await stream.finalResponse();
  assert.equal(response.status, 'completed');
  assert.ok(response.output_text.length > 0);
});

await check('each step of the stream names what it is about', async () => {
  const events = await collect(await client.responses.create({ model, input, stream: true }));
  const of = (type) => events.find((e) => e.type === `response.${type}`);
  const { item } = of('output_item.added');
  assert.deepEqual(item, { id: item.id, type: 'message', status: 'in_progress', role: 'assistant', content: [] });
  for (const e of events.filter((x) => 'item_id' in x)) {
    assert.equal(e.item_id, item.id);
    assert.deepEqual([e.output_index, e.content_index], [0, 0]);
  }
  assert.ok(events.every((e) => e.type !== 'response.output_text.delta' || e.delta.length > 0));
  const text = of('output_text.done').text;
  assert.deepEqual(of('content_part.added').part, { type: 'output_text', text: '', annotations: [], logprobs: [] });
  assert.deepEqual(of('content_part.done').part, { type: 'output_text', text, annotations: [], logprobs: [] });
  const whole = { ...item, status: 'completed', content: [of('content_part.done').part] };
  assert.deepEqual(of('output_item.done').item, whole);
  const first = of('created').response, last = of('completed').response;
  assert.deepEqual([first.status, first.output, first.usage, first.completed_at], ['in_progress', [], null, null]);
  assert.deepEqual(last.output, [whole]);
  assert.deepEqual({ ...last, status: first.status, output: [], usage: null, completed_at: null }, first);
  assert.deepEqual(Object.keys(last.usage).sort(), ['input_tokens', 'input_tokens_details', 'output_tokens',
                                                    'output_tokens_details', 'total_tokens']);
});

await check('what was asked for is echoed', async () => {
  const given = {
    instructions: 'be kind', max_output_tokens: 100, max_tool_calls: 3, temperature: 0.5, top_p: 0.25,
    metadata: { a: 'b' }, parallel_tool_calls: false, truncation: 'auto', prompt_cache_key: 'k', user: 'u',
    safety_identifier: 's', tool_choice: 'none', reasoning: { effort: 'low', summary: 'auto' },
    text: { format: { type: 'json_object' }, verbosity: 'low' },
    tools: [{ type: 'function', name: 'f', parameters: {}, strict: false }], store: true,
  };
  const response = await client.responses.create({ model, input, ...given });
  for (const [key, value] of Object.entries(given)) assert.deepEqual(response[key], value, key);
});

await check('items of every kind', async () => {
  const call = { type: 'function_call', call_id: 'c', name: 'f', arguments: '{}' };
  const response = await client.responses.create({
    model,
    input: [
      { role: 'system', content: 'one' }, { role: 'developer', content: 'two' }, { role: 'user', content: 'three' },
      { type: 'message', role: 'assistant', content: 'four' }, call,
      { type: 'function_call_output', call_id: 'c', output: 'x' }, { type: 'reasoning', id: 'rs_1', summary: [] },
      { type: 'item_reference', id: 'msg_1' },
      { role: 'user', content: [
        { type: 'input_text', text: input },
        { type: 'input_image', detail: 'auto', image_url: 'data:image/png;base64,iVBORw0KGgo=' },
        { type: 'input_file', filename: 'a.txt', file_data: 'data:text/plain;base64,YQ==' }] },
    ],
  });
  assert.equal(response.status, 'completed');
  const items = [];
  for await (const item of client.responses.inputItems.list(response.id, { order: 'asc' })) items.push(item);
  assert.deepEqual(items.map((i) => i.type), ['message', 'message', 'message', 'message', 'function_call',
                                              'function_call_output', 'message']);
  assert.ok(items.every((i) => typeof i.id === 'string'));
});

await check('a stream can be read again from the middle', async () => {
  const events = await collect(await client.responses.create({ model, input, stream: true }));
  const id = events[0].response.id;
  const again = await collect(await client.responses.retrieve(id, { stream: true, starting_after: 2 }));
  assert.deepEqual(again, events.slice(3));
});

await check('background: queued at once, then completed', async () => {
  let response = await client.responses.create({ model, input, background: true });
  assert.ok(['queued', 'in_progress'].includes(response.status));
  for (let n = 0; n < 200 && ['queued', 'in_progress'].includes(response.status); n++) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    response = await client.responses.retrieve(response.id);
  }
  assert.equal(response.status, 'completed');
  assert.equal((await client.responses.cancel(response.id)).status, 'completed');
});

await check('a background stream opens with queued', async () => {
  const events = await collect(await client.responses.create({ model, input, background: true, stream: true }));
  assertSequence(events);
  assert.deepEqual(events.slice(0, 2).map((e) => e.type), ['response.created', 'response.queued']);
  assert.equal(events.at(-1).type, 'response.completed');
});

await check('an ended foreground response cannot be cancelled', async () => {
  const response = await client.responses.create({ model, input });
  await assert.rejects(client.responses.cancel(response.id),
                       (e) => e instanceof BadRequestError && e.code === 'response_not_cancellable');
});

await check('what is not stored cannot be had', async () => {
  const response = await client.responses.create({ model, input, store: false });
  assert.equal(response.store, false);
  await assert.rejects(client.responses.retrieve(response.id), NotFoundError);
});

await check('previous_response_id', async () => {
  const first = await client.responses.create({ model, input, conversation: `c-${Date.now()}` });
  const second = await client.responses.create({ model, input, previous_response_id: first.id });
  assert.equal(second.previous_response_id, first.id);
  await assert.rejects(client.responses.create({ model, input, previous_response_id: 'resp_unknown' }),
                       (e) => e.status === 400 && e.code === 'previous_response_not_found');
});

await check('chat completions', async () => {
  const messages = [
    { role: 'system', content: 'be kind' }, { role: 'user', content: 'before' },
    { role: 'assistant', content: null, tool_calls: [{ id: 'c', type: 'function',
                                                        function: { name: 'f', arguments: '{}' } }] },
    { role: 'tool', tool_call_id: 'c', content: 'x' }, { role: 'assistant', content: 'yes' },
    { role: 'user', content: [{ type: 'text', text: input },
                              { type: 'image_url', image_url: { url: 'data:image/png;base64,iVBORw0KGgo=' } }] },
  ];
  const answer = await client.chat.completions.create({ model, messages, max_completion_tokens: 5 });
  assert.match(answer.id, /^chatcmpl-[0-9a-f]{32}$/);
  assert.equal(answer.model, model);
  const [choice] = answer.choices;
  assert.equal(choice.finish_reason, 'stop');
  assert.ok(choice.message.content.length > 0);
  assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
  const chunks = [];
  const stream = await client.chat.completions.create({ model, messages, stream: true,
                                                        stream_options: { include_usage: true } });
  for await (const chunk of stream) {
    record('C.ChatCompletionChunk', chunk);
    chunks.push(chunk);
  }
  assert.deepEqual(chunks[0].choices[0].delta, { role: 'assistant', content: '' });
  assert.equal(chunks.map((c) => c.choices[0]?.delta.content ?? '').join(''), choice.message.content);
  assert.deepEqual(chunks.at(-2).choices[0], { index: 0, delta: {}, finish_reason: 'stop', logprobs: null });
  assert.deepEqual(chunks.at(-1).choices, []);
  assert.deepEqual(Object.keys(chunks.at(-1).usage), Object.keys(answer.usage));
  assert.ok(chunks.slice(0, -1).every((c) => c.usage === null));
  assert.ok(chunks.every((c) => c.id === chunks[0].id && c.object === 'chat.completion.chunk'));
  const runner = client.chat.completions.stream({ model, messages });
  assert.equal(await runner.finalContent(), choice.message.content);
  await assert.rejects(client.chat.completions.create({ model, messages: [] }), BadRequestError);
  await assert.rejects(client.chat.completions.create({ model, messages: [{ role: 'critic', content: 'x' }] }),
                       (e) => e instanceof BadRequestError && e.param === 'messages[0].role');
  await assert.rejects(client.chat.completions.create({ model, messages, n: 2 }),
                       (e) => e instanceof BadRequestError && e.code === 'unsupported_value' && e.param === 'n');
  await assert.rejects(client.chat.completions.create({ model: 'nobody_here', messages }), NotFoundError);
});

await check('errors are the classes that clients expect', async () => {
  await assert.rejects(client.responses.create({ model: 'nobody_here', input }),
                       (e) => e instanceof NotFoundError && e.code === 'model_not_found');
  await assert.rejects(client.responses.create({ model, input, stream: true, temperature: 7 }),
                       (e) => e instanceof BadRequestError && e.param === 'temperature');
  await assert.rejects(client.responses.create({ model }),
                       (e) => e instanceof BadRequestError && e.code === 'missing_required_parameter');
  const raw = async (path, init) => {
    const answer = await fetch(baseURL.replace(/\/v1$/, '') + path, init);
    return APIError.generate(answer.status, await answer.json(), undefined, answer.headers);
  };
  const is = (error, kind, code) => assert.ok(error instanceof kind && error.code === code && error.message.length > 4,
                                              `${error?.constructor?.name} ${error?.code} ${error?.message}`);
  const json = { 'Content-Type': 'application/json' };
  is(await raw('/v1/responses', { method: 'POST', headers: json, body: '{' }), BadRequestError, null);
  is(await raw('/v1/models', { headers: { 'Sec-Fetch-Site': 'cross-site' } }), PermissionDeniedError,
     'permission_denied');
  is(await raw('/v1/responses', { method: 'GET' }), APIError, 'method_not_allowed');
  is(await raw('/v1/responses/', { method: 'POST', headers: json, body: '{}' }), NotFoundError, null);
  is(await raw('/v1/responses', { method: 'POST', headers: { ...json, 'Content-Type': 'text/plain', Cookie: 'a=b' },
                                  body: '{}' }), APIError, 'unsupported_media_type');
  await assert.rejects(client.responses.compact({ model, input }),
                       (e) => e instanceof NotFoundError && e.code === 'unsupported_endpoint');
  await assert.rejects(client.responses.inputTokens.count({ model, input }),
                       (e) => e instanceof NotFoundError && e.code === 'unsupported_endpoint');
});

if (process.env.WRONG_KEY)
  await check('a wrong key', async () => {
    const other = new OpenAI({ baseURL, apiKey: process.env.WRONG_KEY, maxRetries: 0 });
    await assert.rejects(other.models.list(), (e) => e instanceof AuthenticationError && e.code === 'invalid_api_key');
  });

if (process.env.SCHEMA_INPUT)
  await check('parse with a schema', async () => {
    const schema = { type: 'object', properties: { answer: { type: 'string' } }, required: ['answer'] };
    const response = await client.responses.parse({
      model, input: process.env.SCHEMA_INPUT, text: { format: { type: 'json_schema', name: 'answer', schema } },
    });
    assert.equal(typeof response.output_parsed.answer, 'string');
  });

if (process.env.FAIL_INPUT)
  await check('a failed turn', async () => {
    const stream = client.responses.stream({ model, input: process.env.FAIL_INPUT });
    const response = await stream.finalResponse();
    assert.equal(response.status, 'failed');
    assert.ok(['server_error', 'rate_limit_exceeded', 'invalid_prompt'].includes(response.error.code));
    const failing = { model, input: process.env.FAIL_INPUT, stream: true };
    const events = await collect(await client.responses.create(failing));
    assertSequence(events);
    assert.equal(events.at(-1).type, 'response.failed');
    assert.ok(events.at(-1).response.error.message.length > 0);
    const whole = await client.responses.create({ model, input: process.env.FAIL_INPUT });
    assert.equal(whole.status, 'failed');
    const messages = [{ role: 'user', content: process.env.FAIL_INPUT }];
    await assert.rejects(client.chat.completions.create({ model, messages }),
                         (e) => e instanceof APIError && [429, 502].includes(e.status) &&
                                e.headers.get('x-should-retry') === 'false');
    await assert.rejects(async () => {
      for await (const chunk of await client.chat.completions.create({ model, messages, stream: true })) void chunk;
    }, APIError);
  });

if (process.env.HANG_INPUT) {
  await check('cancel ends the stream as incomplete', async () => {
    const events = [];
    for await (const event of await client.responses.create({ model, input: process.env.HANG_INPUT, stream: true })) {
      recordEvent(event);
      events.push(event);
      if (event.type === 'response.output_text.delta')
        assert.equal((await client.responses.cancel(events[0].response.id)).status, 'cancelled');
    }
    assertSequence(events);
    assert.equal(events.at(-1).type, 'response.incomplete');
    assert.equal((await client.responses.retrieve(events[0].response.id)).status, 'cancelled');
  });

  await check('a client that goes away interrupts its turn', async () => {
    const stream = await client.responses.create({ model, input: process.env.HANG_INPUT, stream: true });
    let id;
    for await (const event of stream) {
      id ??= event.response?.id;
      if (event.type === 'response.output_text.delta') break;
    }
    const left = Date.now();
    stream.controller.abort();
    let response;
    // A second is what it may take; a machine that is busy with other things is given more time to say so.
    for (let n = 0; n < 600; n++) {
      await new Promise((resolve) => setTimeout(resolve, 50));
      response = await client.responses.retrieve(id);
      if (response.status !== 'in_progress') break;
    }
    assert.equal(response.status, 'cancelled');
    console.log(`# interrupted ${Date.now() - left} ms after the client had gone`);
  });

  await check('what goes on from a response that runs has to wait', async () => {
    const running = await client.responses.create({ model, input: process.env.HANG_INPUT, background: true });
    await assert.rejects(client.responses.create({ model, input, previous_response_id: running.id }),
                         (e) => e instanceof ConflictError && e.code === 'response_in_progress' &&
                                e.headers.get('x-should-retry') === 'false');
    assert.equal((await client.responses.cancel(running.id)).status, 'cancelled');
  });

  if (process.env.QUEUE_LIMIT) await check('a full queue', async () => {
    const running = [];
    let refused;
    const limit = Number(process.env.QUEUE_LIMIT);
    for (let n = 0; n < limit + 10 && !refused; n++)
      await client.responses.create({ model, input: process.env.HANG_INPUT, background: true })
        .then((r) => running.push(r.id), (e) => { refused = e; });
    for (const id of running.reverse()) await client.responses.cancel(id);
    assert.ok(refused instanceof RateLimitError && refused.code === 'rate_limit_exceeded');
    assert.equal(refused.headers.get('retry-after'), '5');
    // One runs and is none of those that wait.
    assert.ok(running.length >= limit && running.length <= limit + 1, `${running.length} were taken`);
  });
}

await check('everything is of the types that the package declares', async () => {
  const wanted = [
    'response.created', 'response.queued', 'response.in_progress', 'response.output_item.added',
    'response.content_part.added', 'response.output_text.delta', 'response.output_text.done',
    'response.content_part.done', 'response.output_item.done', 'response.completed',
    ...(process.env.FAIL_INPUT ? ['response.failed'] : []), ...(process.env.HANG_INPUT ? ['response.incomplete'] : []),
  ];
  assert.deepEqual(wanted.filter((t) => !eventTypes().includes(t)), []);
  const found = problems();
  for (const line of found) console.log(`# ${line}`);
  assert.equal(found.length, 0);
});

process.exit(failed);
