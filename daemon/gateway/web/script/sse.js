// SPDX-License-Identifier: MIT

// Server-sent events out of a text that comes in pieces of any size.
export class SseParser {
  #rest = "";
  #event = "";
  #data = [];
  #emit;
  #afterReturn = false;

  // emit(event, data) for each event that has data; comments are dropped.
  constructor(emit) {
    this.#emit = emit;
  }

  push(text) {
    // The other half of a CR LF that was cut in two.
    if (this.#afterReturn && text.startsWith("\n"))
      text = text.slice(1);
    if (text === "")
      return;
    this.#afterReturn = text.endsWith("\r");

    // Only what is new can have line ends.
    const lines = text.split(/\r\n|\r|\n/);
    lines[0] = this.#rest + lines[0];
    this.#rest = lines.pop();
    for (const line of lines)
      this.#line(line);
  }

  #line(line) {
    if (line === "") {
      if (this.#data.length > 0)
        this.#emit(this.#event || "message", this.#data.join("\n"));
      this.#event = "";
      this.#data = [];
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0)
      return;
    const field = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? "" : line.slice(colon + 1);
    if (value.startsWith(" "))
      value = value.slice(1);
    if (field === "event")
      this.#event = value;
    else if (field === "data")
      this.#data.push(value);
  }
}
