// SPDX-License-Identifier: MIT
// The official client of the Model Context Protocol against an agent's tools.
//
// Arguments: the socket, and the agent's workspace. Prints one line a check and exits with 1 if one of them failed.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { ErrorCode } from '@modelcontextprotocol/sdk/types.js';

const [socket, workspace] = process.argv.slice(2);
const names = ['send_message', 'upload_file', 'list_channels', 'list_channel_members', 'get_channel_history',
  'get_thread_history', 'fetch_channel_files', 'get_post', 'get_user_info', 'whoami', 'reload_system_prompt',
  'install_skill', 'uninstall_skill', 'list_skills', 'install_mcp_server', 'uninstall_mcp_server', 'list_mcp_servers',
  'refresh'];

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

async function connect() {
  const client = new Client({ name: 'conformance', version: '1.0' });
  await client.connect(new StdioClientTransport({
    command: '/usr/lib/puffo/puffo-mcp', env: { PUFFO_TOOL_SOCKET: socket },
  }));
  return client;
}

const client = await connect();

async function call(name, args) {
  const result = await client.callTool({ name, arguments: args });
  assert.equal(result.content.length, 1);
  assert.equal(result.content[0].type, 'text');
  return [result.content[0].text, result.isError ?? false];
}

await check('initialize', () => {
  assert.equal(client.getServerVersion().name, 'puffo-core');
  assert.deepEqual(client.getServerCapabilities(), { tools: {} });
});

await check('ping', async () => assert.deepEqual(await client.ping(), {}));

await check('tools/list', async () => {
  const { tools, nextCursor } = await client.listTools();
  assert.deepEqual(tools.map((t) => t.name), names);
  assert.equal(nextCursor, undefined);
  for (const t of tools) {
    assert.ok(t.description.length > 10, t.name);
    assert.equal(t.inputSchema.type, 'object', t.name);
    for (const required of t.inputSchema.required ?? []) assert.ok(required in t.inputSchema.properties, t.name);
  }
});

await check('a tool that does something', async () => {
  const [text, isError] = await call('install_skill', { name: 'tidy', content: '# Tidy – ünïcode\n' });
  const file = path.join(workspace, '.claude/skills/tidy/SKILL.md');
  assert.equal(isError, false);
  assert.equal(text, `Installed skill 'tidy' at ${file}. Call refresh() to make it available.`);
  assert.equal(fs.readFileSync(file, 'utf8'), '# Tidy – ünïcode\n');
  assert.deepEqual(await call('list_skills', {}), ['[agent]  tidy', false]);
  assert.deepEqual(await call('uninstall_skill', { name: 'tidy' }),
    ["Uninstalled skill 'tidy'. Call refresh() to make this effective.", false]);
});

await check('arguments as text', async () => {
  const args = { name: 'x', command: 'npx', args: '["-y","x"]', env: null };
  assert.equal((await call('install_mcp_server', args))[1], false);
  const { mcpServers } = JSON.parse(fs.readFileSync(path.join(workspace, '.mcp.json'), 'utf8'));
  assert.deepEqual(mcpServers, { x: { command: 'npx', args: ['-y', 'x'], env: {} } });
});

await check('a tool that fails', async () => {
  assert.deepEqual(await call('install_skill', { name: '../x', content: 'x' }),
    ['Error executing tool install_skill: the name of a skill consists of 1 to 64 lower-case letters, digits and '
     + 'dashes and does not begin with a dash', true]);
  assert.deepEqual(await call('get_thread_history', {}),
    ['Error executing tool get_thread_history: root_id is required', true]);
});

await check('an unknown tool', () => assert.rejects(client.callTool({ name: 'format_disk', arguments: {} }),
  (error) => error.code === ErrorCode.InvalidParams && /Unknown tool: format_disk/.test(error.message)));

await check('an unknown method', () => assert.rejects(client.listPrompts(), (error) =>
  error.code === ErrorCode.MethodNotFound || /does not support prompts/.test(error.message)));

await check('many calls at once', async () => {
  const results = await Promise.all(Array.from({ length: 12 }, () => call('list_skills', {})));
  for (const result of results) assert.deepEqual(result, ['(no skills installed)', false]);
});

await check('several clients', async () => {
  const others = await Promise.all([connect(), connect(), connect()]);
  for (const other of others) {
    assert.equal((await other.listTools()).tools.length, names.length);
    await other.close();
  }
  await client.ping();
});

await client.close();
process.exit(failed);
