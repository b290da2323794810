# SPDX-License-Identifier: MIT
"""A real browser for the tests: Chromium by its driver, spoken to as https://www.w3.org/TR/webdriver2/ has it."""

import base64
import collections
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
         "--disable-dev-shm-usage", "--force-color-profile=srgb", "--lang=en-US"]
PATIENCE = 120

KEYS = {"Enter": "\ue007", "Escape": "\ue00c", "Tab": "\ue004", "Shift": "\ue008", "Alt": "\ue00a", "Down": "\ue015",
        "Up": "\ue013", "Space": " ", "Home": "\ue011", "End": "\ue010"}


class Trouble(AssertionError):
    """What the driver says went wrong."""


class Element:
    def __init__(self, page, id):
        self.page, self.id = page, id

    def _call(self, method, path, body=None):
        return self.page.call(method, f"/element/{self.id}{path}", body)

    def click(self):
        self._call("POST", "/click", {})

    def type(self, text):
        self._call("POST", "/value", {"text": text})

    def clear(self):
        self._call("POST", "/clear", {})

    @property
    def text(self):
        return self._call("GET", "/text")

    @property
    def shown(self):
        return self.page.js("return arguments[0].checkVisibility({visibilityProperty: true})", self)

    def __getitem__(self, property):
        return self._call("GET", f"/property/{property}")

    def attribute(self, name):
        return self.page.js("return arguments[0].getAttribute(arguments[1])", self, name)


class Page:
    """One window of a browser."""

    def __init__(self, url, session):
        self.url, self.session = url, session

    def call(self, method, path, body=None):
        return request(method, f"{self.url}/session/{self.session}{path}", body)

    def go(self, url):
        self.call("POST", "/url", {"url": url})

    def js(self, script, *arguments):
        return unwrap(self, self.call("POST", "/execute/sync", {"script": script, "args": wrap(arguments)}))

    def js_async(self, script, *arguments):
        """script has "return await …" in it."""
        outcome = unwrap(self, self.call("POST", "/execute/async", {"args": wrap(arguments), "script": f"""
            const done = arguments[arguments.length - 1];
            (async (...arguments) => {{ {script} }})(...arguments).then((value) => done({{ value }}),
                                                                      (e) => done({{ error: String(e) }}));"""}))
        if "error" in outcome:
            raise Trouble(outcome["error"])
        return outcome.get("value")

    def all(self, selector):
        found = self.call("POST", "/elements", {"using": "css selector", "value": selector})
        return [Element(self, e[ELEMENT]) for e in found]

    def maybe(self, selector):
        found = self.all(selector)
        return found[0] if found else None

    def one(self, selector):
        """The first that can be seen, when it can be."""
        return self.wait(lambda: next((e for e in self.all(selector) if e.shown), None), f"{selector} is there")

    def text(self, selector):
        """All text of what can be found now, one line an element."""
        return self.js("return [...document.querySelectorAll(arguments[0])].map((e) => e.innerText).join('\\n')",
                       selector)

    def wait(self, condition, what, seconds=PATIENCE):
        end = time.monotonic() + seconds
        while True:
            try:
                if value := condition():
                    return value
            except Trouble as e:
                # Between finding and asking, the page went on.
                if "stale element" not in str(e) and "no such element" not in str(e):
                    raise
            if time.monotonic() > end:
                with contextlib.suppress(Trouble):
                    self.snapshot(f"trouble-{re.sub('[^a-z0-9]+', '-', what.lower())[:60]}")
                raise Trouble(f"{what}: not within {seconds} s; the page shows: {self.text('body')}")
            time.sleep(0.03)

    def keys(self, *keys):
        """"Enter", "Alt+Down", or a text."""
        for key in keys:
            parts = key.split("+") if re.fullmatch(r"(?:(?:Shift|Alt)\+)?(?:[A-Z][a-z]+)", key) and \
                key.split("+")[-1] in KEYS else None
            values = [KEYS[p] for p in parts] if parts else None
            if values:
                actions = [{"type": "keyDown", "value": v} for v in values] + \
                          [{"type": "keyUp", "value": v} for v in reversed(values)]
            else:
                actions = [a for c in key for a in ({"type": "keyDown", "value": c}, {"type": "keyUp", "value": c})]
            self.call("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def focused(self):
        return self.js("const e = document.activeElement; return e.id || e.dataset.agent || e.dataset.decision || "
                       "e.getAttribute('aria-label') || e.className || e.tagName")

    def devtools(self, command, **parameters):
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def console(self):
        return [e["message"] for e in self.call("POST", "/se/log", {"type": "browser"})
                if e["level"] in ("SEVERE", "WARNING")]

    def screen(self, width, height, mobile=False, dark=False, calm=False):
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, mobile=mobile,
                      deviceScaleFactor=2 if mobile else 1)
        self.devtools("Emulation.setTouchEmulationEnabled", enabled=mobile)
        self.devtools("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if calm else "no-preference"}])

    pictures = None

    def picture(self, name):
        """As it is when what is on its way has arrived."""
        if self.pictures:
            self.wait(lambda: self.js("return document.getAnimations().every((a) => a.playState === 'finished' ||"
                                      " a.effect.getComputedTiming().endTime === Infinity)"), "nothing moves")
            self.snapshot(name)

    def snapshot(self, name):
        if self.pictures:
            pathlib.Path(self.pictures).mkdir(parents=True, exist_ok=True)
            picture = base64.b64decode(self.call("GET", "/screenshot"))
            (pathlib.Path(self.pictures) / f"{name}.png").write_bytes(picture)


def wrap(value):
    if isinstance(value, Element):
        return {ELEMENT: value.id}
    if isinstance(value, (list, tuple)):
        return [wrap(v) for v in value]
    return value


def unwrap(page, value):
    if isinstance(value, dict):
        return Element(page, value[ELEMENT]) if ELEMENT in value else {k: unwrap(page, v) for k, v in value.items()}
    return [unwrap(page, v) for v in value] if isinstance(value, list) else value


def request(method, url, body=None):
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(url, data=data, method=method, headers={"Content-Type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(asked, timeout=PATIENCE) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as e:
        value = json.load(e)["value"]
        raise Trouble(f"{value['error']}: {value['message']}") from None


class Browser:
    """chromedriver as a user of the machine; each page has an empty profile of its own."""

    def __init__(self, popen, home, pictures=None):
        """popen: subprocess.Popen, or what starts a program as somebody."""
        self.home = pathlib.Path(home)
        self.pictures = pictures
        # In a group of its own, so that its end takes the browsers along.
        self.process = popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             start_new_session=True)
        for line in self.process.stdout:
            if found := re.search(r"successfully on port (\d+)", line if isinstance(line, str) else line.decode()):
                self.url = f"http://127.0.0.1:{found.group(1)}"
                break
        else:
            raise Trouble("chromedriver does not start")
        # What the browsers have to say comes here, too: a full pipe would stop them.
        threading.Thread(target=lambda: collections.deque(self.process.stdout, maxlen=0), daemon=True).start()
        self.pages = 0

    def session(self, options):
        """The driver gives a browser a minute to start, which is not much on a machine that has a lot else to do."""
        capabilities = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        for left in reversed(range(3)):
            try:
                return request("POST", f"{self.url}/session", {"capabilities": {"alwaysMatch": capabilities}})
            except Trouble as e:
                if "session not created" not in str(e) or left == 0:
                    raise

    @contextlib.contextmanager
    def page(self, width=1280, height=800, flags=(), **screen):
        self.pages += 1
        profile = self.home / f"profile-{self.pages}"
        options = {"args": [*FLAGS, *flags, f"--user-data-dir={profile}", f"--window-size={width},{height}"]}
        page = Page(self.url, self.session(options)["sessionId"])
        page.pictures = self.pictures
        page.screen(width, height, **screen)
        try:
            yield page
        finally:
            with contextlib.suppress(Exception):
                page.call("DELETE", "")
            shutil.rmtree(profile, ignore_errors=True)

    def close(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
