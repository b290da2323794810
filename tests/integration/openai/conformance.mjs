// SPDX-License-Identifier: MIT
// The official client against the Responses API of the gateway (responses-api §11).
//
// Environment: BASE_URL (…/v1), OPENAI_API_KEY (any text where no key is configured), MODEL (an agent that answers).
// Checks that need an agent that fails or hangs on demand run when FAIL_INPUT, HANG_INPUT, SCHEMA_INPUT name a text that
// makes it do so. Prints one line a check and exits with 1 if one of them failed.

import assert from 'node:assert/strict';
import OpenAI, { AuthenticationError, BadRequestError, NotFoundError } from 'openai';

const baseURL = process.env.BASE_URL ?? process.env.OPENAI_BASE_URL ?? process.argv[2] ?? 'http://127.0.0.1:7011/v1';
const model = process.env.MODEL ?? process.argv[3] ?? 'manager';
const client = new OpenAI({ baseURL, apiKey: process.env.OPENAI_API_KEY ?? 'none', maxRetries: 0 });
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
  for await (const event of stream) events.push(event);
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

await check('errors are the classes that clients expect', async () => {
  await assert.rejects(client.responses.create({ model: 'nobody_here', input }),
                       (e) => e instanceof NotFoundError && e.code === 'model_not_found');
  await assert.rejects(client.responses.create({ model, input, stream: true, temperature: 7 }),
                       (e) => e instanceof BadRequestError && e.param === 'temperature');
  await assert.rejects(client.responses.create({ model }),
                       (e) => e instanceof BadRequestError && e.code === 'missing_required_parameter');
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
    const plain = await client.responses.create({ model, input: process.env.FAIL_INPUT });
    assert.equal(plain.status, 'failed');
  });

if (process.env.HANG_INPUT) {
  await check('cancel ends the stream as incomplete', async () => {
    const events = [];
    for await (const event of await client.responses.create({ model, input: process.env.HANG_INPUT, stream: true })) {
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
    stream.controller.abort();
    let response;
    for (let n = 0; n < 20; n++) {
      await new Promise((resolve) => setTimeout(resolve, 50));
      response = await client.responses.retrieve(id);
      if (response.status !== 'in_progress') break;
    }
    assert.equal(response.status, 'cancelled');
  });
}

process.exit(failed);
