// SPDX-License-Identifier: MIT
// Standard input and output to and from a Unix socket, for clients that start their server as a program.

import net from 'node:net';

const socket = net.connect(process.argv[2]);
socket.on('error', (error) => { console.error(error.message); process.exit(1); });
socket.on('close', () => process.exit(0));
process.stdin.pipe(socket);
socket.pipe(process.stdout);
