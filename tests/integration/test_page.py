# SPDX-License-Identifier: MIT
"""The chat page in a real browser, at the real gateway, with agents that talk to the provider's emulator."""

import http.server
import json
import pathlib
import re
import shutil
import threading

import pytest

from chat_page import (SAMPLE, alices_engineer, ask, browser, choose, expected, foreign, fresh, page,  # noqa: F401
                       reply, say, serial, shown, spoken, watch)
from machine import BASE, SOURCE

AXE = [place / "page/node_modules/axe-core/axe.min.js" for place in (SOURCE / "build", pathlib.Path("/srv/puffo"))]


# --- talking ---

def test_first_look(page):
    assert page.one("#title").text == "Manager"
    assert "Ready" in page.text(".agent[data-agent=manager]")
    assert "Your first contact" in page.one(".empty").text
    assert page.js("return document.title") == "Manager – Puffo agents"
    page.picture("empty")


def test_hire_and_talk(page, user_mode, provider):
    page.one("#hire").click()
    page.one("#hire-dialog")
    assert page.focused() == "hire-role"
    page.keys("../x", "Enter")
    page.wait(lambda: "Letters, digits" in page.text("#hire-role-error"), "what is wrong is said where it is wrong")
    assert page.text("#hire-name-error") == "What name?"
    assert page.one("#hire-role").attribute("aria-invalid") == "true" and page.focused() == "hire-role"
    page.picture("hire-errors")
    page.one("#hire-role").clear()
    page.one("#hire-role").type("Writer")
    page.one("#hire-name").type("bo")
    page.picture("hire")
    page.keys("Enter")
    page.one(".agent[data-agent=writer_bo][aria-current=page]")
    page.wait(lambda: page.one("#title").text == "Bo" and "writer · Ready" in page.text("#subtitle"), "Bo is there")
    assert user_mode.agent("writer_bo").State == "ready" and not page.one("#message").attribute("disabled")
    provider.request("/_script", "POST", [{"reply": SAMPLE}])
    ask(page, "writer_bo", "How is a release made?", "More in the handbook")
    assert page.text(".bubble") == "How is a release made?"
    assert [e.text for e in page.all(".markdown td")][:3] == ["version", "agent", "1 min"]
    assert page.js("return [...document.querySelectorAll('.markdown ol')].map((e) => e.start)") == [1, 2]
    link = page.one(".markdown a")
    assert (link.attribute("rel"), link.attribute("target")) == ("noopener noreferrer", "_blank")
    page.picture("light")
    page.screen(1280, 800, dark=True)
    page.picture("dark")


def test_hire_that_the_server_refuses(page, user_mode):
    page.one("#hire").click()
    page.one("#hire-role").type("r" * 32)
    page.one("#hire-name").type("n" * 32)
    page.keys("Enter")
    # role_name may have 64 characters, and has 65.
    page.wait(lambda: "invalid" in page.text("#hire-name-error, #hire-role-error, #hire-error"),
              "the server's words show")
    page.keys("Escape")
    page.wait(lambda: page.focused() == "hire", "the focus is back where it was")


def test_reply_is_shown_while_it_comes(page, alices_engineer, provider):
    choose(page, "engineer_alice")
    text = fresh("watch me")
    say(page, f"{text} [[words: 60]] [[hang: 20]]")
    page.wait(lambda: "word20" in page.text(".growing .markdown"), "the first words are there")
    assert provider.outcomes(text)[-1] is None, "and there are more to come"
    page.wait(lambda: "Working" in page.text("#subtitle"), "the head tells that the agent works")
    assert page.one("#send").attribute("aria-label") == "Stop the reply"
    assert spoken(page) == "", "nobody is told of every word"
    page.picture("streaming")
    page.keys("Escape")
    page.wait(lambda: not page.maybe(".growing"), "it is stopped")
    said = ask(page, "engineer_alice", "all of it [[words: 60]]", "word60")
    assert said.split() == [f"word{n}" for n in range(1, 61)]
    # Read out once, when it is whole.
    page.wait(lambda: spoken(page).endswith(" word59 word60"), "screen readers are told")
    page.wait(lambda: "Ready" in page.text("#subtitle"), "the agent is ready again")


def test_reload_keeps_what_was_said(page, alices_engineer):
    choose(page, "engineer_alice")
    ask(page, "engineer_alice", "remember this [[reply: I **will**]]", "I will")
    page.one("#message").type("a draft")
    texts = f"{shown('engineer_alice')} .messages .bubble, {shown('engineer_alice')} .messages .markdown"
    before = page.text(texts)
    page.go(BASE)
    page.one(".agent[data-agent=engineer_alice][aria-current=page]")
    page.wait(lambda: page.text(texts) == before, "everything is there again")
    assert page.one("#message")["value"] == "a draft"
    assert page.maybe(f"{shown('engineer_alice')} .markdown strong")
    page.one("#message").clear()


def test_reload_amid_a_reply(page, alices_engineer):
    choose(page, "engineer_alice")
    text = fresh("long one")
    before = page.text(f"{shown('engineer_alice')} .markdown").count("word20")
    say(page, f"{text} [[words: 80]] [[hang: 20]]")
    page.wait(lambda: "word20" in page.text(".growing .markdown"), "the reply has begun")
    page.go(BASE)
    page.wait(lambda: "word20" in page.text(".growing .markdown"), "it goes on in the new page")
    page.one("#send").click()
    page.wait(lambda: not page.maybe(".growing"), "and can be stopped there")
    page.wait(lambda: page.one("#send").attribute("aria-label") == "Send", "all is at rest")
    ask(page, "engineer_alice", "and on [[reply: further]]", "further")
    assert page.text(f"{shown('engineer_alice')} .bubble").count(text) == 1
    assert page.text(f"{shown('engineer_alice')} .markdown").count("word20") == before + 1
    page.go(BASE)
    reply(page, "engineer_alice", "further")
    assert page.text(f"{shown('engineer_alice')} .bubble").count(text) == 1


def test_stop(page, alices_engineer, provider):
    choose(page, "engineer_alice")
    for stop in [lambda: page.one("#send").click(), lambda: page.keys("Escape")]:
        text = fresh("stop me")
        say(page, f"{text} [[words: 4000]] [[slow: 50ms]]")
        page.wait(lambda: "word4" in page.text(".growing .markdown"), "the reply has begun")
        stop()
        page.wait(lambda: "Stopped." in page.text(f"{shown('engineer_alice')} .message:last-of-type, "
                                                  f"{shown('engineer_alice')} .note") and not page.maybe(".growing"),
                  "it is stopped")
        alices_engineer.suite.wait(lambda: provider.outcomes(text)[-1] == "client-gone", 60,
                                   "the provider is left alone")
        page.wait(lambda: page.one("#send").attribute("aria-label") == "Send", "one may go on")
    ask(page, "engineer_alice", "after that [[reply: here I am]]", "here I am")


def test_messages_wait_for_each_other(page, alices_engineer):
    choose(page, "engineer_alice")
    say(page, fresh("first") + " [[words: 40]] [[hang: 10]]")
    page.wait(lambda: "word10" in page.text(".growing .markdown"), "the reply has begun")
    say(page, fresh("second") + " [[reply: the second]]")
    page.wait(lambda: "Waits for its turn." in page.text(".growing .note"), "the second waits")
    page.keys("Escape")
    reply(page, "engineer_alice", "the second")
    page.wait(lambda: not page.maybe(".growing"), "and the first is stopped")
    texts = page.text(f"{shown('engineer_alice')} .bubble")
    assert texts.index("first") < texts.index("second")


def test_turn_that_ends_while_nobody_looks(page, alices_engineer, user_mode, provider):
    choose(page, "engineer_alice")
    text = fresh("unseen")
    say(page, f"{text} [[words: 40]] [[hang: 10]]")
    page.wait(lambda: "word10" in page.text(".growing .markdown"), "the reply has begun")
    turn, = page.js("return JSON.parse(sessionStorage.getItem('turns')).engineer_alice")
    page.go("about:blank")
    user_mode.http("POST", f"/v1/responses/{turn['id']}/cancel", {})
    alices_engineer.wait_state("ready")
    page.go(BASE)
    page.wait(lambda: text in page.text(f"{shown('engineer_alice')} .bubble"), "it is in the history")
    page.wait(lambda: not page.maybe(".growing"), "and over")
    ask(page, "engineer_alice", "what now? [[reply: on we go]]", "on we go")
    assert page.text(f"{shown('engineer_alice')} .bubble").count(text) == 1
    assert not any(page.js("return Object.values(JSON.parse(sessionStorage.getItem('turns')))")), "nothing runs"


def test_trouble_is_told_in_place(page, alices_engineer):
    choose(page, "engineer_alice")
    text = fresh("go wrong")
    say(page, f"{text} [[status: 400]] [[error: invalid_request_error]] [[times: 1]] [[reply: second time]]")
    error = page.one(f"{shown('engineer_alice')} .note.error")
    page.picture("error")
    assert error.text
    page.one(f"{shown('engineer_alice')} .note.error .link").click()
    reply(page, "engineer_alice", "second time")


def test_others_turns_show_when_they_end(page, alices_engineer, user_mode):
    choose(page, "engineer_alice")
    text = fresh("from elsewhere")
    user_mode.turn("engineer_alice", f"{text} [[reply: heard {text}]]")
    reply(page, "engineer_alice", f"heard {text}")
    assert page.text(f"{shown('engineer_alice')} .bubble").count(text) >= 1
    choose(page, "manager")
    user_mode.turn("engineer_alice", fresh("again") + " [[reply: unseen]]")
    page.wait(lambda: page.text(".agent[data-agent=engineer_alice] .badge") == "1", "there is news")
    choose(page, "engineer_alice")
    reply(page, "engineer_alice", "unseen")
    assert not page.maybe(".agent[data-agent=engineer_alice] .badge:not([hidden])")


def test_others_turns_can_be_stopped(page, alices_engineer, user_mode, provider):
    choose(page, "engineer_alice")
    working = f"{shown('engineer_alice')} .elsewhere:not([hidden])"
    assert not page.maybe(working)
    text = fresh("of another client")
    with user_mode.stream("engineer_alice", f"{text} [[words: 20]] [[hold: others]]") as stream:
        stream.until("response.output_text.delta")
        page.wait(lambda: "Alice is working." in page.text(working), "it says so")
        page.picture("working-elsewhere")
        page.one(f"{working} button").click()
        assert stream.rest()[-1]["type"] == "response.incomplete"
    provider.release("others")
    page.wait(lambda: not page.maybe(working), "it is over")


def test_older_messages_come_on_scrolling_up(page, user_mode):
    user_mode.hire("clerk", "ida")
    for n in range(40):
        user_mode.turn("clerk_ida", f"question {n}. [[reply: answer {n}.]]")
    choose(page, "clerk_ida")
    reply(page, "clerk_ida", "answer 39.")
    assert "question 0." not in page.text(f"{shown('clerk_ida')} .bubble")
    at = page.js("const e = [...document.querySelectorAll('.bubble')].at(-1).getBoundingClientRect(); return e.top")
    assert 0 < at < 800, "the newest is in sight"
    for _ in range(3):
        page.js("document.querySelector(arguments[0]).scrollTop = 0", f"{shown('clerk_ida')} .scroller")
        if "question 0." in page.text(f"{shown('clerk_ida')} .bubble"):
            break
    page.wait(lambda: "question 0." in page.text(f"{shown('clerk_ida')} .bubble"), "the oldest are there")
    numbers = re.findall(r"question (\d+)\.", page.text(f"{shown('clerk_ida')} .bubble"))
    assert numbers == [str(n) for n in range(40)], "in order, and each once"
    page.one(".latest").click()
    page.wait(lambda: not page.maybe(".latest:not([hidden])"), "and back at the end")


def test_gateway_restarts_amid_a_reply(page, alices_engineer, user_mode):
    choose(page, "engineer_alice")
    text = fresh("survive this")
    say(page, f"{text} [[words: 120]] [[slow: 200ms]]")
    page.wait(lambda: "word5" in page.text(".growing .markdown"), "the reply has begun")
    user_mode.systemctl("restart", "puffo-gateway.service")
    said = reply(page, "engineer_alice", "word120")
    assert said.split() == [f"word{n}" for n in range(1, 121)]
    page.wait(lambda: not page.maybe("body.offline"), "the list is live again")


def test_files(page, alices_engineer, provider):
    choose(page, "engineer_alice")
    page.js("""
        const files = new DataTransfer();
        files.items.add(new File(["some notes"], "notes.txt", {type: "text/plain"}));
        files.items.add(new File([new Uint8Array(8 * 1024 * 1024 + 1)], "huge.bin"));
        document.getElementById("message").dispatchEvent(
          new ClipboardEvent("paste", {clipboardData: files, bubbles: true, cancelable: true}))""")
    page.wait(lambda: "notes.txt" in page.text("#attachments"), "the file is there")
    assert "huge.bin has 8.4 MB, and no file may have more than 8.4 MB" in page.text("#composer-error")
    page.js("""
        const files = new DataTransfer(), drop = {dataTransfer: files, bubbles: true, cancelable: true};
        files.items.add(new File(["a,b"], "<b>table.csv", {type: "text/csv"}));
        document.getElementById("main").dispatchEvent(new DragEvent("dragenter", drop));
        document.getElementById("main").dispatchEvent(new DragEvent("drop", drop))""")
    page.wait(lambda: "<b>table.csv" in page.text("#attachments"), "what was dropped is there, as text")
    page.picture("files")
    page.one("#attachments button[aria-label='Remove notes.txt']").click()
    assert "notes.txt" not in page.text("#attachments")
    text = fresh("read this")
    ask(page, "engineer_alice", f"{text} [[reply: I have it]]", "I have it")
    assert not page.maybe("#attachments:not([hidden])")
    assert "table" in page.text(f"{shown('engineer_alice')} .message-files")
    inbox = list((alices_engineer.suite.user.home / ".agent_proxy/engineer_alice/.puffo/inbox").rglob("*.csv"))
    assert len(inbox) == 1 and inbox[0].read_text() == "a,b"


def test_many_windows(page, alices_engineer, user_mode):
    """A browser opens six connections to one server. Ten windows work all the same, and hear of each other."""
    choose(page, "engineer_alice")
    handles = [page.call("GET", "/window")]
    for _ in range(9):
        handles.append(page.call("POST", "/window/new", {"type": "tab"})["handle"])
        page.call("POST", "/window", {"handle": handles[-1]})
        page.go(BASE)
        page.one(".agent[data-agent=engineer_alice][aria-current=page]")
    text = fresh("to all windows")
    ask(page, "engineer_alice", f"{text} [[reply: {text} heard]]", "heard")
    for handle in [handles[0], handles[4]]:
        page.call("POST", "/window", {"handle": handle})
        reply(page, "engineer_alice", f"{text} heard")
    # Who told the others goes, and another one takes its place.
    page.call("POST", "/window", {"handle": handles[-1]})
    page.call("DELETE", "/window")
    page.call("POST", "/window", {"handle": handles[4]})
    text = fresh("to the rest")
    user_mode.turn("engineer_alice", f"{text} [[reply: {text} heard]]")
    for handle in [handles[4], handles[0]]:
        page.call("POST", "/window", {"handle": handle})
        reply(page, "engineer_alice", f"{text} heard")


# --- what must not happen ---

HOSTILE = """<script>window.broken = 1</script>

<img src=x onerror="window.broken = 2"> <svg onload="window.broken = 3"><a xlink:href="javascript:broken=4">x</a>

[click](javascript:window.broken=5) [and](data:text/html,<script>window.broken=6</script>) [here](vbscript:x)

<style>body { display: none }</style><form action="/hire" method="post"><input name="role"><button>go</button></form>

<iframe src="http://evil.example/"></iframe>

![picture](http://evil.example/pixel.png) <b onclick="window.broken = 7">b</b> [good](https://example.org/)

<div style="position: fixed; inset: 0" id="message" class="dialog">over all</div>

```html
<script>window.broken = 8</script>
```

| <img src=x onerror="window.broken = 9"> | b |
|---|---|
| <a href="/hire" onmouseover="window.broken = 10">c</a> | `<b>d</b>` |"""

SANITISED = """
const { sanitised } = await import(document.querySelector('script[type=module]').src.replace('app.js', 'markdown.js'));
const box = document.createElement('div');
box.append(sanitised(arguments[0]));
document.body.append(box);
await new Promise((resolve) => setTimeout(resolve, 300));
for (const a of box.querySelectorAll('a, b, details, div, button, summary'))
  for (const kind of ['click', 'mouseover', 'toggle', 'focus'])
    a.dispatchEvent(new Event(kind, {bubbles: false, cancelable: true}));
const made = box.innerHTML;
box.remove();
return made;
"""


def test_hostile_reply(page, alices_engineer, provider):
    choose(page, "engineer_alice")
    provider.request("/_script", "POST", [{"reply": HOSTILE}])
    ask(page, "engineer_alice", fresh("be evil"), "over all")
    page.picture("hostile")
    last = f"{shown('engineer_alice')} .message.assistant:not(.elsewhere)"
    check = page.js("""
        const all = [...document.querySelectorAll(arguments[0])].at(-1).querySelector('.markdown');
        return {
          forbidden: all.querySelectorAll('script,style,form,input,iframe,object,embed,svg a,img,link,base').length,
          handlers: [...all.querySelectorAll('*')].flatMap((e) => [...e.attributes].map((a) => a.name))
                      .filter((name) => name.startsWith('on') || name === 'style' || name === 'id'),
          links: [...all.querySelectorAll('a')].map((a) => a.getAttribute('href')),
          text: all.innerText,
          broken: window.broken ?? null,
        }""", last)
    assert (check["forbidden"], check["handlers"], check["broken"]) == (0, [], None)
    assert check["links"] == [None, None, None, "http://evil.example/pixel.png", "https://example.org/"]
    for words in ["<script>window.broken = 1</script>", "<img src=x onerror", "<style>body", "<form action=",
                  "<iframe src=", "<div style=", "<script>window.broken = 8</script>"]:
        assert words in check["text"], "what is no markdown shows as what it is"
    # Hers came by the same way, and is as harmless after a reload.
    page.go(BASE)
    reply(page, "engineer_alice", "over all")
    assert page.js("return window.broken ?? null") is None


def test_the_sanitiser_alone(page):
    """As if the markdown library let everything through."""
    watch(page)
    for text in ["<script>window.broken=1</script>", "<img src=x onerror=window.broken=1>",
                 "<svg onload=window.broken=1>",
                 "<a href=javascript:window.broken=1>x</a>", "<a href='java\tscript:window.broken=1'>x</a>",
                 "<math><mtext><table><mglyph><style><!--</style>"
                 "<img title='--&gt;&lt;img src=1 onerror=window.broken=1&gt;'>",
                 "<form><math><mtext></form><form><mglyph><style></math><img src onerror=window.broken=1>",
                 "<details open ontoggle=window.broken=1>x</details>",
                 "<b style='background:url(//evil.example)'>x</b>", "<style>@import '//evil.example'</style>",
                 "<link rel=stylesheet href=//evil.example>", "<base href=//evil>",
                 "<img src=http://evil.example/x.png>", "<img src=/agents>",
                 "<img src='data:image/svg+xml;base64,PHN2Zz4='>",
                 "<input autofocus onfocus=window.broken=1>", "<form action=/hire><button>x</button></form>",
                 "<p id=message class=dialog name=x>clobber</p>", "<a href=/hire target=_self>x</a>",
                 "<iframe srcdoc=x>",
                 "<template><script>window.broken=1</script></template>", "<object data=x>", "<embed src=x>",
                 "<noscript><p title='</noscript><img src=x onerror=window.broken=1>'></noscript>",
                 "<video src=//evil>"]:
        made = page.js_async(SANITISED, text)
        assert not re.search(r"(?i)<(?!/?(a|b|p|details|img|table|tbody|tr|td)\b)[a-z]|\son\w+=|style|javascript|evil|"
                             r"\bid=|\bname=|src=|class=|href=", made), f"{text} → {made}"
    assert page.js("return window.broken ?? null") is None
    picture = '<img src="data:image/png;base64,iVBORw0KGgo=">'
    assert page.js_async(SANITISED, picture) == picture
    # The policy stood behind the sanitiser all the time, and has said so: that is what it is for.
    page.console()
    watch(page)


class Elsewhere(http.server.BaseHTTPRequestHandler):
    """A page of another origin, which tries what it can."""

    def do_GET(self):
        body = b"<!doctype html><title>elsewhere</title><p>elsewhere</p>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def elsewhere():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()


TRY = """
const read = async (path, options) => {
  try {
    const answer = await fetch(arguments[0] + path, options);
    return `${answer.type} ${answer.status} ${(await answer.text()).slice(0, 100)}`;
  } catch (e) { return 'error'; }
};
return [
  await read('/agents'), await read('/'), await read('/agents', {mode: 'no-cors', credentials: 'include'}),
  await read('/hire', {method: 'POST', mode: 'no-cors', body: JSON.stringify({role: 'spy', name: 'one'})}),
  await read('/hire', {method: 'POST', headers: {'Content-Type': 'application/json'},
                       body: JSON.stringify({role: 'spy', name: 'two'})}),
  await read('/v1/responses', {method: 'POST', mode: 'no-cors', body: JSON.stringify({input: 'spy three'})}),
  await new Promise((resolve) => {
    const source = new EventSource(arguments[0] + '/agents/events', {withCredentials: true});
    source.onerror = () => resolve('error');
    source.addEventListener('agents', (e) => resolve(e.data));
  }),
  await new Promise((resolve) => {
    const form = document.createElement('form'), frame = document.createElement('iframe');
    frame.name = 'target';
    form.action = arguments[0] + '/hire';
    form.method = 'post';
    form.target = 'target';
    form.enctype = 'text/plain';
    form.innerHTML = `<input name='{"role":"spy","name":"four","x":"' value='"}'>`;
    document.body.append(frame, form);
    // Being empty counts as being loaded; that is over by now.
    frame.onload = () => resolve('posted');
    form.submit();
  }),
];
"""


def test_other_origins(browser, user_mode, provider, elsewhere):
    agents = set(user_mode.agents())
    with browser.page() as page:
        # Another port, another name of the same machine: both other origins.
        for base in [BASE, BASE.replace("127.0.0.1", "localhost")]:
            page.go(f"http://127.0.0.1:{elsewhere}/")
            results = page.js_async(TRY, base)
            assert all(r == "error" or r.startswith("opaque 0 ") or r == "posted" for r in results), results
        # A page there cannot show ours in a frame either.
        page.js("const f = document.createElement('iframe'); f.src = arguments[0]; document.body.append(f)", BASE)
    assert set(user_mode.agents()) == agents and provider.count("spy three") == 0


def test_names_of_others(browser, user_mode):
    """DNS rebinding: the name is theirs, the address ours."""
    browser_flags = ["--host-resolver-rules=MAP evil.example 127.0.0.1"]
    with browser.page(flags=browser_flags) as page:
        page.go(BASE.replace("127.0.0.1", "evil.example") + "/")
        assert "permission_denied" in page.text("body")
        answer = json.loads(page.js_async("return await (await fetch('/agents')).text()"))
        assert answer["error"]["code"] == "permission_denied"


def test_nothing_leaves(page, alices_engineer):
    choose(page, "engineer_alice")
    ask(page, "engineer_alice", "hello [[reply: ![x](https://evil.example/y.png) hi]]", "hi")
    names = page.js("return performance.getEntriesByType('resource').map((e) => e.name)")
    assert len(names) > 20 and foreign(page) == []
    assert all(e["nextHopProtocol"] in ("http/1.1", "") for e in
               page.js("return performance.getEntriesByType('resource').map((e) => e.toJSON())"))
    # A second visit takes the files from the browser's own store.
    page.go(BASE)
    page.one(".agent[data-agent=manager]")
    sizes = page.js("return performance.getEntriesByType('resource').filter((e) => e.name.includes('/web/'))"
                    ".map((e) => e.transferSize)")
    assert sizes and max(sizes) == 0
    watch(page)


# --- decisions ---

class Ask:
    """A tool of an agent that needs somebody's word; asked in the place of a CLI (daemon/session/ask-hook.h)."""

    def __init__(self, suite, agent, tool="Bash", **input):
        self.suite, self.agent = suite, agent
        self.name = f"page-{next(serial)}"
        self.directory = suite.user.home / f".agent_proxy/.state/agents/{agent}"
        line = {"turn": "turn-1", "ask": self.name, "tool": tool, "input": input}
        suite.user.append(self.directory / "asks", json.dumps(line) + "\n")

    def verdicts(self):
        path = self.directory / "verdicts"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [v for v in lines if v["ask"] == self.name]

    @property
    def allowed(self):
        self.suite.wait(self.verdicts, 120, f"there is a verdict on {self.name}")
        return self.verdicts()[0]["allow"]


def test_approvals(page, alices_engineer, user_mode, hooks):
    choose(page, "engineer_alice")
    hostile = "git push --force origin main # <img src=x onerror=window.broken=1>"
    asked = Ask(user_mode, "engineer_alice", command=hostile)
    card = page.one(".approval")
    assert "Alice wants to run a command" in card.text and "Bash" in card.text and hostile in card.text
    assert re.search(r"\d+ (min|s) left", card.text)
    assert page.text(".agent[data-agent=engineer_alice] .badge") == "1"
    page.wait(lambda: spoken(page, "alarm") == "Alice asks whether it may run a command.", "screen readers are told")
    page.picture("approval")
    page.one(".approval [data-decision=allow]").click()
    assert asked.allowed is True
    page.wait(lambda: not page.maybe(".approval"), "the card is gone")

    # Elsewhere than one looks.
    choose(page, "manager")
    asked = Ask(user_mode, "engineer_alice", tool="Write", file_path="/etc/passwd", content="x")
    page.wait(lambda: page.one("#elsewhere").text == "Alice waits for you", "the head says so")
    assert not page.maybe(".approval")
    page.one("#elsewhere").click()
    card = page.one(".approval")
    assert "wants to write a file" in card.text and "file_path: /etc/passwd" in card.text
    page.one(".approval [data-decision=deny]").click()
    assert asked.allowed is False
    page.wait(lambda: not page.maybe(".approval"), "the card is gone")
    assert page.js("return window.broken ?? null") is None

    # By others.
    asked = Ask(user_mode, "engineer_alice", tool="unheard_of", what="x")
    assert "wants to use unheard_of" in page.one(".approval").text
    waiting = user_mode.http("GET", "/approvals").json["approvals"]
    user_mode.http("POST", f"/approvals/{waiting[0]['id']}", {"decision": "deny"})
    page.wait(lambda: not page.maybe(".approval"), "answered elsewhere, gone here")


# --- the key ---

def test_key(browser, user_mode, alices_engineer, with_key):
    with browser.page() as page:
        page.go(BASE)
        page.one("#key-dialog")
        assert page.focused() == "key" and not page.all(".agent")
        page.keys("Enter")
        page.wait(lambda: "Which key?" in page.text("#key-error"), "an empty one is none")
        page.keys("wrong", "Enter")
        page.wait(lambda: "This is not the key." in page.text("#key-error"), "a wrong one is refused")
        page.picture("key")
        assert page.focused() == "key"
        page.keys(with_key, "Enter")
        page.one(".agent[data-agent=manager][aria-current=page]")
        choose(page, "engineer_alice")
        ask(page, "engineer_alice", "let me in [[reply: come in]]", "come in")
        # No script can read it, and it is not the key.
        assert page.js("return document.cookie") == ""
        assert with_key not in page.js("return JSON.stringify([{...localStorage}, {...sessionStorage}])")
        cookies = page.devtools("Network.getAllCookies")["cookies"]
        assert [(c["name"], c["httpOnly"], c["sameSite"]) for c in cookies] == [("agent_proxy", True, "Strict")]
        assert with_key not in cookies[0]["value"]
        # It lasts over a reload, and until it is given back.
        page.go(BASE)
        page.one(".agent[data-agent=manager]")
        page.wait(lambda: not page.maybe("#key-dialog[open]"), "nobody is asked again")
        page.one("#forget").click()
        page.one("#key-dialog")
        assert page.devtools("Network.getAllCookies")["cookies"] == []
        page.keys("Escape")
        page.wait(lambda: page.maybe("#agents-note .link"), "the way back is there")
        page.one("#agents-note .link").click()
        page.one("#key-dialog")
        page.keys(with_key, "Enter")
        page.one(".agent[data-agent=manager]")
        complaints = [m for m in page.console() if not expected(m)]
        assert not complaints


# --- everybody ---

def test_keyboard_only(page, alices_engineer, user_mode, hooks):
    page.js("document.activeElement.blur()")
    page.keys("?")
    page.one("#help-dialog")
    page.picture("help")
    page.keys("Escape")
    page.wait(lambda: not page.maybe("#help-dialog[open]"), "the list of keys is gone")
    page.keys("n")
    page.one("#hire-dialog")
    page.keys("tester", "Tab", "kay", "Enter")
    page.one(".agent[data-agent=tester_kay][aria-current=page]")
    page.wait(lambda: page.focused() == "message", "one may write at once")
    page.keys("first line", "Shift+Enter", "second [[reply: two lines]]")
    assert page.one("#message")["value"] == "first line\nsecond [[reply: two lines]]"
    page.keys("Enter")
    reply(page, "tester_kay", "two lines")
    assert "first line\nsecond" in page.text(".bubble") and page.focused() == "message"
    page.keys("Alt+Up")
    page.wait(lambda: not page.maybe(".agent[data-agent=tester_kay][aria-current=page]"), "another agent is chosen")
    page.keys("Alt+Down")
    page.one(".agent[data-agent=tester_kay][aria-current=page]")
    asked = Ask(user_mode, "tester_kay", command="true")
    page.one(".approval")
    seen = []
    page.js("document.activeElement.blur()")
    while len(seen) < 60 and "allow" not in seen:
        page.keys("Tab")
        seen.append(page.focused())
    # In the order in which things stand, and nothing is left out.
    order = [seen.index(name) for name in ["manager", "tester_kay", "hire", "theme", "help", "deny", "allow"]]
    assert order == sorted(order), seen
    ring = page.js("const s = getComputedStyle(document.activeElement); return [s.outlineStyle, s.outlineWidth]")
    assert ring == ["solid", "2px"]
    page.keys("Space")
    assert asked.allowed is True
    page.wait(lambda: page.focused() == "message", "and one goes on writing")


AUDIT = """
const results = await axe.run(document, {
  resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
});
return results.violations.map((v) => `${v.id}: ${v.help}: ${v.nodes.map((n) => n.target.join(' ') + ' ' +
                                                                        n.failureSummary).join('; ')}`);
"""


def audit(page):
    axe = next((path for path in AXE if path.is_file()), None)
    if not axe:
        pytest.fail("axe-core is not installed: ./check integration does that")
    # As a program of the driver's: the page's own policy would let no foreign script in.
    page.js(axe.read_text())
    assert page.js_async(AUDIT) == []


def test_everybody_can_use_it(page, alices_engineer, provider, user_mode, hooks):
    choose(page, "engineer_alice")
    provider.request("/_script", "POST", [{"reply": "# Title\n\n" + SAMPLE}])
    ask(page, "engineer_alice", fresh("say much"), "More in the handbook")
    asked = Ask(user_mode, "engineer_alice", command="true")
    page.one(".approval")
    for dark in [False, True]:
        page.screen(1280, 800, dark=dark, calm=True)
        audit(page)
    page.one(".approval [data-decision=deny]").click()
    assert asked.allowed is False
    for opener, dialog in [("#hire", "#hire-dialog"), ("#help", "#help-dialog")]:
        page.one(opener).click()
        page.one(dialog)
        if opener == "#hire":
            page.keys("Enter")
        audit(page)
        page.keys("Escape")
        page.wait(lambda d=dialog: not page.maybe(d + "[open]"), "the dialog is gone")
    page.js("document.documentElement.style.fontSize = '200%'")
    assert page.js("return document.documentElement.scrollWidth <= innerWidth"), "twice as large, it still fits"


def test_light_and_dark(page):
    def colours():
        return page.js("return getComputedStyle(document.body).backgroundColor")
    light = colours()
    page.screen(1280, 800, dark=True)
    dark = colours()
    assert light != dark
    page.one("#theme").click()
    assert page.one("#theme").attribute("aria-label") == "Light colours" and colours() == light
    page.go(BASE)
    page.one(".agent[data-agent=manager]")
    assert colours() == light, "it is remembered"
    page.one("#theme").click()
    page.screen(1280, 800, dark=False)
    assert colours() == dark
    page.one("#theme").click()
    assert colours() == light
    watch(page)


def test_calm(page, alices_engineer):
    page.screen(1280, 800, calm=True)
    choose(page, "engineer_alice")
    say(page, "slowly [[words: 30]] [[hang: 10]]")
    page.wait(lambda: "word10" in page.text(".growing .markdown"), "the reply has begun")
    assert page.js("return document.getAnimations().filter((a) => a.playState === 'running').length") == 0
    page.keys("Escape")
    page.wait(lambda: not page.maybe(".growing"), "it is stopped")


def test_telephone(browser, user_mode, alices_engineer, provider):
    with browser.page(390, 844, mobile=True) as page:
        page.go(BASE)
        page.one("#title")
        watch(page)
        page.wait(lambda: page.one("#title").text == "Manager", "the manager is chosen")
        assert not page.all(".agent")[0].shown and page.js("return document.getElementById('sidebar').inert")
        page.one("#drawer-open").click()
        page.one(".agent[data-agent=engineer_alice]")
        page.wait(lambda: page.js("return document.getElementById('sidebar').getBoundingClientRect().left") == 0,
                  "it is open")
        page.picture("mobile-list")
        assert page.js("return document.getElementById('main').inert")
        page.keys("Escape")
        page.wait(lambda: not page.maybe("body.drawer-open"), "Escape closes it")
        assert page.focused() == "drawer-open"
        page.one("#drawer-open").click()
        page.one(".agent[data-agent=engineer_alice]").click()
        page.wait(lambda: page.one("#title").text == "Alice" and not page.maybe("body.drawer-open"),
                  "and a choice, too")
        provider.request("/_script", "POST", [{"reply": SAMPLE + "\n\n" + "wide `" + "x" * 300 + "`"}])
        page.one("#message").type(fresh("on the way"))
        page.one("#send").click()
        reply(page, "engineer_alice", "More in the handbook")
        page.picture("mobile")
        assert page.js("return document.documentElement.scrollWidth") == 390, "nothing sticks out"
        # What fingers are to hit is large enough for them.
        small = page.js("""
            return [...document.querySelectorAll('button, a, input, textarea, summary')]
              .filter((e) => e.checkVisibility({visibilityProperty: true}) && !e.closest('[inert], .markdown p'))
              .map((e) => [e.id || e.className, e.getBoundingClientRect()])
              .filter(([, r]) => r.width < 44 || r.height < 44)
              .map(([name, r]) => `${name} ${r.width}x${r.height}`)""")
        assert small == []
        audit(page)
        assert not [m for m in page.console() if not expected(m)] and not page.js("return window.violations")


def test_narrow_and_missing(browser, user_mode):
    """The narrowest there is, and an agent that has lost its workspace: what is the matter, and what helps."""
    agent = user_mode.hire("tester", "lee")
    agent.call("Stop")
    agent.wait_state("stopped")
    shutil.rmtree(user_mode.user.home / ".agent_proxy/tester_lee")
    user_mode.manager("Reload")
    agent.wait_state("missing")
    with browser.page(360, 740, mobile=True) as page:
        page.go(BASE)
        watch(page)
        page.wait(lambda: page.one("#title").text == "Manager", "the manager is chosen")
        page.one("#drawer-open").click()
        assert "tester · Workspace is gone" in page.text(".agent[data-agent=tester_lee]")
        page.one(".agent[data-agent=tester_lee]").click()
        page.wait(lambda: page.one("#title").text == "Lee" and not page.maybe("body.drawer-open"), "it is chosen")
        page.one("#message").type(fresh("anybody there?"))
        page.one("#send").click()
        error = page.one(f"{shown('tester_lee')} .note.error")
        page.picture("narrow-missing")
        assert "agent-proxy init tester_lee" in page.text("#subtitle") + error.text
        assert page.js("return document.documentElement.scrollWidth") == 360, "nothing sticks out"
        audit(page)
        assert not [m for m in page.console() if not expected(m)] and not page.js("return window.violations")
        # It is made again, and the message can be sent.
        user_mode.hire("tester", "lee")
        page.one(f"{shown('tester_lee')} .note.error .link").click()
        reply(page, "tester_lee", "anybody there?")


def test_long_reply_stays_quick(page, alices_engineer, provider):
    """A hundred thousand characters come in; the page must not think for long between two frames."""
    choose(page, "engineer_alice")
    book = "\n\n".join(f"## Part {n}\n\n{SAMPLE}" for n in range(120)) + "\n\nthe end"
    provider.request("/_script", "POST", [{"reply": book}])
    page.js("""
        window.long = [];
        new PerformanceObserver((list) => window.long.push(...list.getEntries().map((e) => e.duration)))
          .observe({type: 'longtask'})""")
    ask(page, "engineer_alice", fresh("a book"), "the end")
    worst, all = page.js("return [Math.max(0, ...window.long), window.long.length]")
    print(f"long tasks: {all}, the longest {worst} ms")
    assert page.js("return document.querySelectorAll('.markdown h3').length") >= 120
    page.wait(lambda: page.js("const s = document.querySelector('.conversation:not([hidden]) .scroller');"
                              "return s.scrollHeight - s.scrollTop - s.clientHeight") < 4, "one sees the end")
    # Half a second on a machine that has a lot else to do; minutes, were every word to make the whole anew.
    assert worst < 20_000
