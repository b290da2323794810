// SPDX-License-Identifier: MIT
// How one message looks.

import { copyButton, h, icon, setText } from "./dom.js";
import { agentName, clockTime } from "./format.js";
import { avatar } from "./agents.js";
import { MarkdownView } from "./markdown.js";

function fileChips(files) {
  const names = (files ?? []).map((file) => typeof file === "string" ? file : file.name ?? file.filename ?? file.path)
    .filter(Boolean).map((name) => name.split("/").at(-1));
  if (names.length === 0)
    return null;
  return h("ul", { class: "message-files", "aria-label": "Files" },
           ...names.map((name) => h("li", null, icon("file"), h("span", null, name))));
}

function timeOf(date) {
  if (!date)
    return null;
  return h("time", { datetime: date.toISOString(), title: date.toLocaleString() }, clockTime(date));
}

// {role, text, date, files}; an assistant's may grow.
export class MessageView {
  #note = null;
  #markdown = null;
  #body;
  #foot;
  text;

  constructor(agent, { role, text, date, files }) {
    this.role = role;
    this.date = date;
    this.text = text;
    this.#foot = h("div", { class: "message-foot" });
    if (role === "user") {
      this.#body = text ? h("div", { class: "bubble" }, text) : null;
      this.element = h("li", { class: "message user" }, h("span", { class: "visually-hidden" }, "You: "),
                       this.#body, fileChips(files), this.#foot);
    } else if (role === "assistant") {
      this.#body = h("div", { class: "markdown" });
      this.element = h("li", { class: "message assistant" }, avatar(agent, "small"),
                       h("div", { class: "message-main" },
                         h("span", { class: "visually-hidden" }, `${agentName(agent)}: `),
                         this.#body, fileChips(files), this.#foot));
      this.#markdown = new MarkdownView(this.#body);
      if (text)
        this.#markdown.finish(text);
    } else {
      this.#body = h("div", { class: "aside" }, text);
      this.element = h("li", { class: "message system" }, this.#body);
    }
    if (text || role === "user")
      this.#finishFoot();
  }

  grow(text) {
    this.text = text;
    this.element.classList.toggle("thinking", text === "");
    this.element.classList.add("growing");
    this.#markdown.show(text);
  }

  finish(text, date) {
    this.text = text;
    this.date = date ?? this.date;
    this.element.classList.remove("growing", "thinking");
    if (this.#markdown)
      this.#markdown.finish(text);
    this.#finishFoot();
  }

  #finishFoot() {
    if (this.role === "system")
      return;
    this.#foot.replaceChildren(...[
      timeOf(this.date),
      this.role === "assistant" && this.text ? copyButton("Copy this message", () => this.text) : null,
    ].filter(Boolean));
  }

  // A line below: what went wrong, or how far it is. action: {label, run}.
  note(text, { error = false, action = null } = {}) {
    const key = `${error} ${text} ${action?.label ?? ""}`;
    if (this.#note?.dataset.key === key)
      return;
    this.#note?.remove();
    this.#note = null;
    if (!text)
      return;
    const label = h("span");
    this.#note = h("div", { class: error ? "note error" : "note", role: error ? "alert" : null, "data-key": key },
                   error ? icon("warning") : null, label,
                   action && h("button", { type: "button", class: "link", onclick: action.run }, action.label));
    setText(label, text);
    (this.element.querySelector(".message-main") ?? this.element).append(this.#note);
  }
}
