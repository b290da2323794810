// SPDX-License-Identifier: MIT
// The official client while the session behind its server comes and goes.
//
// Argument: the socket. For each line on standard input it makes twelve calls at once and prints how many were answered.

import readline from 'node:readline';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';

const client = new Client({ name: 'restarts', version: '1.0' });
await client.connect(new StdioClientTransport({
  command: '/usr/lib/puffo/puffo-mcp', env: { PUFFO_TOOL_SOCKET: process.argv[2] },
}));
console.log('ready');

for await (const line of readline.createInterface({ input: process.stdin })) {
  console.log('calling');
  const results = await Promise.allSettled(Array.from({ length: 12 },
    () => client.callTool({ name: 'list_skills', arguments: {} })));
  const good = results.filter((r) => r.value?.content[0].text === '(no skills installed)');
  console.log(`${line} ${good.length}`);
}
await client.close();
