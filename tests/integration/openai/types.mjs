// SPDX-License-Identifier: MIT
// Whether values are what the package's own type declarations say: they become literals of a program that the
// TypeScript compiler checks. A literal may have no member that its type does not have, must have all that are not optional, and
// each must be of its type, down to the last one.

import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const types = new Map();        // type expression → literals

// Where the service itself goes beyond the declarations: members that they do not have, and those that they have as
// optional and the service has as null.
const beyond = { response: ['store', 'max_tool_calls'] };
const nullable = { response: ['user', 'usage'] };

function strip(value) {
  if (Array.isArray(value)) return value.map(strip);
  if (value === null || typeof value !== 'object') return value;
  const hidden = ['output_text', '_request_id', ...(beyond[value.object] ?? [])];
  const optional = nullable[value.object] ?? [];
  const rest = Object.entries(value).filter(([k, v]) => !hidden.includes(k) && !(v === null && optional.includes(k)));
  // The client puts it there.
  if (value.object === 'response') rest.push(['output_text', '']);
  return Object.fromEntries(rest.map(([k, v]) => [k, strip(v)]));
}

export function record(type, value) {
  if (!types.has(type)) types.set(type, new Map());
  // Of many deltas the first is as good as all of the same make.
  const literal = JSON.stringify(strip(value));
  const make = literal.replace(/("(?:[^"\\]|\\.)*")(:?)|-?[0-9][0-9.eE+-]*/g, (all, s, colon) =>
    colon || /^"[a-z_.]{1,40}"$/.test(all) ? all : s ? '""' : '0');
  types.get(type).set(make, literal);
}

export function recordEvent(event) {
  record(`Extract<R.ResponseStreamEvent, { type: ${JSON.stringify(event.type)} }>`, event);
}

// The types of events that were recorded.
export const eventTypes = () => [...types.keys()].flatMap((t) => t.match(/type: "([^"]+)"/)?.[1] ?? []);

export function problems() {
  const name = fileURLToPath(new URL('recorded.ts', import.meta.url));
  const lines = [
    "import * as R from 'openai/resources/responses/responses';",
    "import * as I from 'openai/resources/responses/input-items';",
    "import * as M from 'openai/resources/models';",
    "import * as C from 'openai/resources/chat/completions';",
    'export { I, M, C };',
    'type Known<T> = [T] extends [never] ? { type_is_unknown: true } : T;',
  ];
  for (const [type, values] of types)
    for (const value of values.values()) lines.push(`export const v${lines.length}: Known<${type}> = ${value};`);
  const text = lines.join('\n');
  const options = {
    strict: true, exactOptionalPropertyTypes: true, noEmit: true, skipLibCheck: true, types: [],
    target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext,
  };
  const host = ts.createCompilerHost(options);
  const { getSourceFile, fileExists, readFile } = host;
  host.getSourceFile = (f, ...rest) =>
    f === name ? ts.createSourceFile(f, text, options.target, true) : getSourceFile.call(host, f, ...rest);
  host.fileExists = (f) => f === name || fileExists.call(host, f);
  host.readFile = (f) => (f === name ? text : readFile.call(host, f));
  const program = ts.createProgram([name], options, host);
  const file = program.getSourceFile(name);
  return [...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file)].map((d) => {
    const { line } = file.getLineAndCharacterOfPosition(d.start);
    return `${ts.flattenDiagnosticMessageText(d.messageText, ' ')} in ${lines[line].slice(0, 2000)}`;
  });
}
