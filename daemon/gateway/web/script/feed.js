// SPDX-License-Identifier: MIT
// The events of the agents, over one connection for all windows of a browser: it opens six to one server and no more,
// and a window that waits for a seventh shows nothing. The one that was looked at last listens and tells the others.

const NAME = "puffo-agents";
const EVENTS = ["agents", "agent", "approval"];
const SHARED = "locks" in navigator && "BroadcastChannel" in window;

export class Feed {
  #take;
  #refused;
  #source = null;
  #channel = SHARED ? new BroadcastChannel(NAME) : null;
  #waiting = null;

  // take(type, data): an event, or "open" or "cut". refused(): the server does not want to tell, which comes without a
  // reason, and start() is to be called again when that is known.
  constructor(take, refused) {
    this.#take = take;
    this.#refused = refused;
    if (this.#channel) {
      this.#channel.addEventListener("message", ({ data }) => {
        if (!this.#source)
          this.#take(data.type, data.data);
      });
      document.addEventListener("visibilitychange", () => {
        if (!document.hidden && !this.#source)
          this.#lead(true);
      });
    }
  }

  // Whether this window is the one that listens.
  get leads() {
    return this.#source !== null;
  }

  start() {
    if (this.#source || !SHARED)
      this.#open();
    else
      this.#lead(!document.hidden);
  }

  // now: takes it from whoever has it. A window that nobody sees may be asleep.
  #lead(now) {
    this.#waiting?.abort();
    const waiting = this.#waiting = new AbortController();
    const mine = () => {
      if (this.#waiting === waiting)
        this.#waiting = null;
      this.#open();
      return new Promise(() => {});
    };
    navigator.locks.request(NAME, now ? { steal: true } : { signal: waiting.signal }, mine).catch((e) => {
      if (waiting.signal.aborted)
        return;
      if (e.name !== "AbortError") {
        // No locks here after all: each window for itself.
        this.#open();
        return;
      }
      // Another window has taken it; when that goes, this one may be the next.
      this.#close();
      this.#lead(false);
    });
  }

  #close() {
    this.#source?.close();
    this.#source = null;
  }

  #tell(type, data = null) {
    this.#take(type, data);
    this.#channel?.postMessage({ type, data });
  }

  #open() {
    this.#close();
    const source = this.#source = new EventSource("/agents/events");
    source.addEventListener("open", () => this.#tell("open"));
    for (const type of EVENTS)
      source.addEventListener(type, (event) => this.#tell(type, JSON.parse(event.data)));
    source.addEventListener("error", () => {
      // The browser tries again by itself after a cut, and never after an answer that was a refusal.
      if (source.readyState === EventSource.CLOSED)
        this.#refused();
      else
        this.#tell("cut");
    });
  }
}
