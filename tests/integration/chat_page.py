# SPDX-License-Identifier: MIT
"""The chat page in a real browser: what a person does there, and what he sees then."""

import itertools
import pathlib

import pytest

from browser import Browser
from machine import BASE

OUT = pathlib.Path("/srv/puffo/out")
serial = itertools.count(1)

# A reply with what Markdown has.
SAMPLE = """A release has **three steps**, and the last one is a person's.

1. The version goes into `meson.build`:

```meson
project('puffo', 'c',
        version : '0.2.0',
        license : 'MIT')
```

2. `./check` must say *0 failed*. It takes about ten minutes.
3. Then tag and push.

| step | who | how long |
|---|---|---:|
| version | agent | 1 min |
| check | agent | 10 min |
| tag | you | 1 min |

> Tags are signed with *your* key, which I never see.

More in [the handbook](https://example.org/handbook)."""


@pytest.fixture(scope="module")
def browser(alice):
    made = Browser(alice.popen, alice.home / "browser", OUT / "page" if OUT.is_dir() else None)
    yield made
    made.close()


@pytest.fixture
def page(browser, user_mode):
    """The page, with the manager chosen. Whatever a test does, the browser has nothing to complain of."""
    with browser.page() as made:
        made.go(BASE)
        made.one(".agent[data-agent=manager][aria-current=page]")
        watch(made)
        yield made
        complaints = [m for m in made.console() if not expected(m)]
        assert not complaints and not made.js("return window.violations")
        assert foreign(made) == []


def expected(message):
    """Chromium writes every answer that is an error into the console, also those that are asked for on purpose."""
    return "Failed to load resource" in message and "Content Security" not in message


def watch(page):
    page.js("window.violations = []; document.addEventListener('securitypolicyviolation', (e) => "
            "window.violations.push(`${e.violatedDirective} ${e.blockedURI} ${e.sample}`))")


def foreign(page):
    """What was loaded, or tried, from anywhere but the gateway."""
    return page.js("return performance.getEntriesByType('resource').map((e) => e.name)"
                   ".filter((name) => !name.startsWith(location.origin + '/') && !name.startsWith('data:'))")


@pytest.fixture(scope="module")
def alices_engineer(user_mode):
    return user_mode.hire("engineer", "alice")


def choose(page, agent):
    page.one(f".agent[data-agent={agent}]").click()
    page.one(f".agent[data-agent={agent}][aria-current=page]")
    page.one(f".conversation[data-agent={agent}]")
    page.wait(lambda: not page.maybe(f".conversation[data-agent={agent}] .skeleton"), "the conversation is loaded")


def shown(agent):
    return f".conversation[data-agent={agent}]"


def say(page, text):
    page.one("#message").type(text)
    page.keys("Enter")


def ask(page, agent, text, contains):
    """Says something and waits for the whole reply; gives its text."""
    before = len(page.all(f"{shown(agent)} .message.assistant:not(.elsewhere)"))
    say(page, text)
    return reply(page, agent, contains, before)


def reply(page, agent, contains, before=0):
    ready = f"{shown(agent)} .message.assistant:not(.elsewhere):not(.growing) .markdown"
    page.wait(lambda: len(page.all(ready)) > before and contains in page.all(ready)[-1].text,
              f"{agent} says {contains}")
    return page.all(ready)[-1].text


def spoken(page, region="announcer"):
    """What screen readers were given to say last."""
    return page.js("return document.getElementById(arguments[0]).textContent", region)


def fresh(prefix):
    return f"{prefix} {next(serial)}"
