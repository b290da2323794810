// SPDX-License-Identifier: MIT
// One request to an agent and its answer as it grows, over as many connections as it takes.

import { ApiError, api, send } from "./api.js";
import { SseParser } from "./sse.js";

const PAUSES = [300, 700, 1500, 3000, 5000];

// What the events of a stream add up to; knows nothing of connections.
export class Answer {
  id = null;
  sequence = -1;
  status = "sending";           // then queued, in_progress, completed, incomplete, failed, cancelled
  error = null;
  #items = [];

  // Whether it changed anything. An event that was seen before does not.
  apply(event) {
    if (typeof event.sequence_number === "number") {
      if (event.sequence_number <= this.sequence)
        return false;
      this.sequence = event.sequence_number;
    }
    switch (event.type) {
      case "response.created":
      case "response.queued":
      case "response.in_progress":
        this.id = event.response.id;
        this.status = event.response.status;
        return true;
      case "response.output_item.added":
        if (event.item.type === "message")
          this.#items[event.output_index] = "";
        return true;
      case "response.output_text.delta":
        this.#items[event.output_index] = (this.#items[event.output_index] ?? "") + event.delta;
        return true;
      case "response.output_text.done":
        this.#items[event.output_index] = event.text;
        return true;
      case "response.completed":
      case "response.incomplete":
      case "response.failed":
        this.take(event.response);
        return true;
      case "error":
        this.status = "failed";
        this.error = event.message;
        return true;
      default:
        return false;
    }
  }

  // A response object as it is stored: the last word.
  take(response) {
    this.id = response.id;
    this.status = response.status;
    this.error = response.error?.message ?? null;
    const texts = response.output.filter((item) => item.type === "message")
      .map((item) => item.content.map((content) => content.text ?? content.refusal ?? "").join(""));
    if (texts.length > 0)
      this.#items = texts;
  }

  get text() {
    return this.#items.filter((text) => text).join("\n\n");
  }

  get over() {
    return !["sending", "queued", "in_progress"].includes(this.status);
  }
}

export class Turn {
  answer = new Answer();
  connected = true;
  #agent;
  #input;
  #onChange;
  #broken = false;
  #stopWanted = false;
  #abort = new AbortController();

  // onChange() after everything new; no more often than once for each piece that came in.
  constructor(agent, input, onChange) {
    this.#agent = agent;
    this.#input = input;
    this.#onChange = onChange;
  }

  // One that was begun before this page was loaded.
  static again(agent, id, onChange) {
    const turn = new Turn(agent, null, onChange);
    turn.answer.id = id;
    turn.answer.status = "in_progress";
    return turn;
  }

  // Until the answer is over. Throws when the agent has not got the input, or what became of it cannot be known.
  async run() {
    let pause = 0;
    while (!this.answer.over) {
      const before = this.answer.sequence;
      try {
        await this.#listen();
        if (this.answer.over)
          break;
      } catch (e) {
        if (e.name === "AbortError")
          return;
        if (!this.answer.id || !(e instanceof ApiError) || !e.passing)
          if (!await this.#ask(e))
            throw e;
      }
      if (this.answer.over)
        break;
      // The stream broke off, and the turn goes on without us.
      this.connected = false;
      this.#onChange();
      pause = this.answer.sequence > before ? 0 : Math.min(pause + 1, PAUSES.length - 1);
      await new Promise((resolve) => { setTimeout(resolve, PAUSES[pause]); });
    }
    this.connected = true;
    this.#onChange();
  }

  #open() {
    const options = { accept: "text/event-stream", signal: this.#abort.signal };
    if (this.answer.id) {
      const after = this.answer.sequence >= 0 ? `&starting_after=${this.answer.sequence}` : "";
      return send("GET", `/v1/responses/${encodeURIComponent(this.answer.id)}?stream=true${after}`, options);
    }
    // In the background, so that a page that is closed or loaded again does not end what it asked for.
    return send("POST", "/v1/responses", {
      ...options, body: { model: this.#agent, input: this.#input, stream: true, background: true },
    });
  }

  async #listen() {
    const response = await this.#open();
    const reader = response.body.getReader(), decoder = new TextDecoder();
    const parser = new SseParser((kind, data) => this.#event(data));
    this.connected = true;
    this.#broken = false;
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done)
          return;
        parser.push(decoder.decode(value, { stream: true }));
        this.#onChange();
        if (this.answer.over || this.#broken)
          return;
      }
    } catch (e) {
      if (e.name === "AbortError" || e instanceof ApiError)
        throw e;
      throw new ApiError(0, { message: "The connection broke off." });
    } finally {
      reader.cancel().catch(() => {});
    }
  }

  #event(data) {
    const event = JSON.parse(data);
    // Not the turn's own failure: the server goes, say. What becomes of the turn, the next one knows.
    if (event.type === "error" && this.answer.id)
      this.#broken = true;
    else
      this.answer.apply(event);
    if (this.#stopWanted && this.answer.id)
      this.stop().catch(() => {});
  }

  // Without a stream, the stored object tells what became of the turn.
  async #ask(error) {
    if (!this.answer.id || error.status !== 400)
      return false;
    this.answer.take(await api.response(this.answer.id));
    return true;
  }

  // Before the server has said how it calls the turn, it cannot be told to stop it: then it is as soon as it has.
  async stop() {
    this.#stopWanted = !this.answer.id;
    if (this.#stopWanted)
      return;
    try {
      await api.cancel(this.answer.id);
    } catch (e) {
      // It was over before.
      if (e.status !== 400 && e.status !== 404)
        throw e;
    }
  }

  // Nobody looks any more; the turn itself goes on.
  leave() {
    this.#abort.abort();
  }
}
