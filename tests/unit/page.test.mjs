// SPDX-License-Identifier: MIT
// The parts of the chat page that need no browser: node --test page.test.mjs

import assert from "node:assert/strict";
import path from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";

const web = pathToFileURL(path.resolve(process.env.WEB) + "/");
const load = (name) => import(new URL(`script/${name}.js`, web));

const { SseParser } = await load("sse");
const { blocksOf, toHtml, hasDefinitions, normalised } = await load("markdown-parse");
const { choose, inputOf, FILE_MAX, FILES_MAX } = await load("attachments");
const { Answer, Turn } = await load("turn");
const format = await load("format");
const { linesOf, visible } = await load("approvals");

function events(pieces) {
  const seen = [], parser = new SseParser((event, data) => seen.push([event, data]));
  for (const piece of pieces)
    parser.push(piece);
  return seen;
}

test("server-sent events, cut anywhere", () => {
  const stream = ": hello\n\nevent: a\ndata: {\"x\":1}\n\nevent: b\r\ndata: one\r\ndata:two\r\n\r\ndata: plain\r\r" +
                 "event: no data\n\nid: 7\nretry: 5\ndata\n\ndata: ✓ ü 🐧\n\ndata: never ended\n";
  const expected = [["a", '{"x":1}'], ["b", "one\ntwo"], ["message", "plain"], ["message", ""], ["message", "✓ ü 🐧"]];
  assert.deepEqual(events([stream]), expected);
  for (let size = 1; size < 12; size++)
    assert.deepEqual(events(stream.match(new RegExp(`[^]{1,${size}}`, "g"))), expected, `pieces of ${size}`);
  for (let cut = 0; cut <= stream.length; cut++)
    assert.deepEqual(events([stream.slice(0, cut), "", stream.slice(cut)]), expected, `cut at ${cut}`);
});

test("a long answer is read in time that grows with it", () => {
  const piece = `data: ${"x".repeat(50)}\n\n`, start = performance.now();
  assert.equal(events(Array(50_000).fill(piece)).length, 50_000);
  const line = events(["data: ", ...Array(50_000).fill("y"), "\n\n"]);
  assert.equal(line[0][1].length, 50_000);
  assert.ok(performance.now() - start < 20_000);
});

const html = (text) => {
  const { settled, rest } = blocksOf(normalised(text));
  return toHtml(settled) + toHtml(rest);
};

test("markdown", () => {
  assert.match(html("# Title"), /^<h2>Title<\/h2>/);
  assert.match(html("a **b** `c`"), /<p>a <strong>b<\/strong> <code>c<\/code><\/p>/);
  assert.match(html("```js\nlet a = \"<b>\";\n```"),
               /<pre><code class="language-js">let a = &quot;&lt;b&gt;&quot;;\n<\/code>/);
  assert.match(html("|a|b|\n|-|-:|\n|1|2|"), /<td align="right">2<\/td>/);
  assert.match(html("- [x] done\n- [ ] open"), /☑ .*done[^]*☐ .*open/);
  assert.doesNotMatch(html("- [x] done"), /<input/);
  assert.match(html("a<br>b <kbd>Esc</kbd>"), /a<br>b <kbd>Esc<\/kbd>/);
});

test("markup in markdown is text, but for what is harmless", () => {
  const hostile = ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "x <b onclick=alert(1)>y</b>",
                   "<style>*{display:none}</style>", "<form action=/hire><input></form>", "<iframe src=//x></iframe>",
                   "<a href=javascript:alert(1)>z</a>", "<!-- c --><svg onload=alert(1)>",
                   "<details open ontoggle=a()>",
                   "<div\nonmouseover=alert(1)>\n\nx", "<br onload=alert(1)>", "<b\u0000>"];
  for (const text of hostile) {
    const made = html(text);
    assert.doesNotMatch(made, /<(?!\/?(?:p|br|b|a|pre|code)>)[a-z!]/i, `${text} → ${made}`);
    assert.doesNotMatch(made, /<[^>]*\son\w+=/i, `${text} → ${made}`);
  }
  assert.match(html("![alt](https://elsewhere.example/x.png)"), /<a href="[^"]*">alt<\/a>/);
  assert.doesNotMatch(html("![alt](https://elsewhere.example/x.png)"), /<img/);
  assert.doesNotMatch(html('![a" onerror="x](data:image/svg+xml;base64,AAAA)'), /<img|" onerror/);
});

test("a text that grows ends as the same text at once does", () => {
  const text = normalised(`# One

Two *three*
four

- a
- b

  more of b
- c

1. x

2. y

\`\`\`sh
echo "a

b"
\`\`\`

| a | b |
|---|---|
| 1 | 2 |

> quoted
lazy

Setext
------

<div>
text
</div>

last [link](https://example.org) line\ttab
    indented code

* * *
end`);
  for (let step of [1, 2, 3, 7, 40]) {
    let settled = 0, made = "", rest = "";
    for (let n = step; ; n = Math.min(n + step, text.length)) {
      const blocks = blocksOf(text.slice(settled, n));
      made += toHtml(blocks.settled);
      rest = toHtml(blocks.rest);
      settled += blocks.settledLength;
      if (n === text.length)
        break;
    }
    const plain = (h) => h.replace(/\s+/g, " ");
    assert.equal(plain(made + rest), plain(html(text)), `steps of ${step}`);
    assert.ok(settled > text.length / 2, "most of it was made once only");
  }
  assert.ok(hasDefinitions("x [a][1]\n\n[1]: https://example.org"));
  assert.ok(!hasDefinitions("an [a]: b"));
});

const file = (name, size, type = "") => ({ name, size, type });

test("files", () => {
  const MiB = 1024 * 1024;
  assert.equal(choose([], [file("a", 5)]).taken.length, 1);
  for (const [present, added, words] of [
    [[], file("big.iso", FILE_MAX + 1), /big\.iso has 8\.4 MB, and no file may have more than 8\.4 MB/],
    [[], file("nothing", 0), /nothing is empty/],
    [Array(FILES_MAX).fill(file("x", 1)), file("one more", 1), /one more: no more than 10 files/],
    [[file("a", 6 * MiB)], file("b", 6 * MiB), /b: the files of one message may have/],
  ]) {
    const { taken, refused } = choose(present, [added]);
    assert.equal(taken.length, 0);
    assert.match(refused.join(), words);
  }
  const mixed = choose([file("a", 1)], [file("b", 0), file("c", 2)]);
  assert.deepEqual([mixed.taken.map((f) => f.name), mixed.refused.length], [["c"], 1]);
});

test("a message without files is its text", async () => {
  assert.equal(await inputOf("hello", []), "hello");
});

const begun = (type, n, status) => ({ type, sequence_number: n, response: { id: "resp_1", status, output: [] } });
const created = begun("response.created", 0, "queued");

test("an answer is what its events add up to, whatever comes twice", () => {
  const answer = new Answer();
  const all = [
    created,
    begun("response.in_progress", 1, "in_progress"),
    { type: "response.output_item.added", sequence_number: 2, output_index: 0, item: { type: "message" } },
    { type: "response.output_text.delta", sequence_number: 3, output_index: 0, delta: "a" },
    { type: "response.output_text.delta", sequence_number: 4, output_index: 0, delta: "b" },
    { type: "response.output_item.added", sequence_number: 5, output_index: 1, item: { type: "message" } },
    { type: "response.output_text.delta", sequence_number: 6, output_index: 1, delta: "c" },
  ];
  for (const event of all)
    assert.ok(answer.apply(event));
  for (const event of all)
    assert.ok(!answer.apply(event));
  assert.deepEqual([answer.id, answer.text, answer.status, answer.over], ["resp_1", "ab\n\nc", "in_progress", false]);
  answer.apply({ type: "response.completed", sequence_number: 7, response: {
    id: "resp_1", status: "completed", error: null,
    output: [{ type: "message", content: [{ type: "output_text", text: "whole" }] }] } });
  assert.deepEqual([answer.text, answer.over], ["whole", true]);
});

function stream(...all) {
  const text = all.map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`).join("");
  return new Response(text, { headers: { "Content-Type": "text/event-stream" } });
}

function completed(n, text) {
  return { type: "response.completed", sequence_number: n, response: {
    id: "resp_1", status: "completed", error: null, output: [{ type: "message", content: [{ text }] }] } };
}

async function turn(...answers) {
  const asked = [];
  globalThis.fetch = async (url, { method }) => {
    asked.push(`${method} ${url}`);
    const next = answers.shift();
    if (next instanceof Error)
      throw next;
    return next;
  };
  const t = new Turn("manager", "hi", () => {});
  await t.run();
  return { asked, answer: t.answer };
}

const delta = { type: "response.output_text.delta", sequence_number: 1, output_index: 0, delta: "x" };

test("a stream that is cut goes on behind what was seen", async () => {
  const { asked, answer } = await turn(stream(created, delta), new TypeError("no network"),
                                       stream(completed(2, "xy")));
  assert.deepEqual(asked, ["POST /v1/responses", "GET /v1/responses/resp_1?stream=true&starting_after=1",
                           "GET /v1/responses/resp_1?stream=true&starting_after=1"]);
  assert.deepEqual([answer.text, answer.status], ["xy", "completed"]);
});

test("a server that goes does not end the turn", async () => {
  const goodbye = { type: "error", sequence_number: 2, code: "server_error", message: "The server is restarting." };
  const { asked, answer } = await turn(stream(created, delta, goodbye), stream(completed(2, "done")));
  assert.equal(asked.length, 2);
  assert.equal(answer.text, "done");
});

test("when the events are gone, the stored response tells the end", async () => {
  const gone = Response.json({ error: { message: "gone", code: "stream_not_available" } }, { status: 400 });
  const { answer } = await turn(stream(created), gone, Response.json(completed(9, "stored").response));
  assert.deepEqual([answer.text, answer.status], ["stored", "completed"]);
});

test("what was not taken is not asked for twice", async () => {
  const full = Response.json({ error: { message: "33 wait", code: "rate_limit_exceeded" } }, { status: 429 });
  await assert.rejects(turn(full), (e) => e.status === 429 && e.message === "33 wait");
  await assert.rejects(turn(new TypeError("refused")), (e) => e.status === 0);
});

test("what is to be allowed is shown as it is", () => {
  assert.equal(linesOf({ command: "ls\n-l" }), "ls\n-l");
  assert.equal(linesOf('{"command":"ls"}'), "ls");
  assert.equal(linesOf({ file_path: "/etc/x", n: 3 }), "file_path: /etc/x\nn: 3");
  assert.equal(linesOf('{"command":"cut of'), '{"command":"cut of');
  assert.equal(linesOf(null), "null");
  assert.equal(visible("rm \u202e x\u200b\u0007\r\ty\n"), "rm \\u202e x\\u200b\\u0007\\u000d\ty\n");
  assert.equal(visible("größe 🐧 日本 العربية"), "größe 🐧 日本 العربية");
});

test("how things are written", () => {
  assert.deepEqual([0, 999, 1500, 999_400, 999_600, 8_388_608, 12_000_000].map(format.fileSize),
                   ["0 B", "999 B", "2 kB", "999 kB", "1.0 MB", "8.4 MB", "12 MB"]);
  assert.equal(format.agentName({ agent: "engineer_alice", role: "engineer", name: "alice" }), "Alice");
  assert.equal(format.agentName({ agent: "manager", role: "manager", name: "" }), "Manager");
  const now = new Date(2026, 10, 21, 12);
  assert.equal(format.dayName(new Date(2026, 10, 21, 1), now), "Today");
  assert.equal(format.dayName(new Date(2026, 10, 20, 23), now), "Yesterday");
  assert.equal(format.toDate(1795226603).getTime(), 1795226603000);
  assert.deepEqual([61, 30.2, 0, 240].map(format.timeLeft), ["1 min left", "31 s left", "time is up", "4 min left"]);
});
