// SPDX-License-Identifier: MIT
// Where one writes: text, files, and the button that sends or stops.

import { choose, isImage } from "./attachments.js";
import { byId, h, icon, setIcon, setText } from "./dom.js";
import { agentName, fileSize } from "./format.js";
import { lasting } from "./storage.js";

const GROWS_BY_ITSELF = CSS.supports("field-sizing", "content");

export class Composer {
  #form = byId("composer");
  #text = byId("message");
  #send = byId("send");
  #chips = byId("attachments");
  #error = byId("composer-error");
  #agent = null;
  #files = new Map();           // agent id → its files; the drafts of texts are in the browser's storage
  #running = false;
  #onSend;
  #onStop;

  constructor({ onSend, onStop }) {
    this.#onSend = onSend;
    this.#onStop = onStop;
    setIcon(byId("attach"), "attach");
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#text.addEventListener("keydown", (event) => this.#onKey(event));
    this.#text.addEventListener("input", () => this.#changed());
    this.#text.addEventListener("paste", (event) => {
      if (event.clipboardData.files.length > 0) {
        event.preventDefault();
        this.#add([...event.clipboardData.files]);
      }
    });
    byId("attach").addEventListener("click", () => byId("files").click());
    byId("files").addEventListener("change", (event) => {
      this.#add([...event.target.files]);
      event.target.value = "";
    });
    this.#takeDrops();
    this.#show();
  }

  select(agent) {
    if (this.#agent?.agent === agent.agent)
      return;
    this.#agent = agent;
    this.#text.value = lasting.get(`draft ${agent.agent}`, "");
    this.#text.placeholder = `Message ${agentName(agent)}`;
    this.#text.setAttribute("aria-label", `Message to ${agentName(agent)}`);
    this.#say("");
    this.#grow();
    this.#showFiles();
    this.#show();
  }

  setRunning(running) {
    this.#running = running;
    this.#show();
  }

  focus() {
    this.#text.focus();
  }

  get #present() {
    return this.#files.get(this.#agent?.agent) ?? [];
  }

  get #empty() {
    return this.#text.value.trim() === "" && this.#present.length === 0;
  }

  #onKey(event) {
    // isComposing: Enter takes a word of an input method, and is not meant for us.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229)
      return;
    event.preventDefault();
    if (!this.#empty)
      this.#submit();
  }

  #submit() {
    if (!this.#agent)
      return;
    if (this.#empty) {
      if (this.#running)
        this.#onStop();
      return;
    }
    const text = this.#text.value.trim(), files = this.#present;
    this.#text.value = "";
    this.#files.delete(this.#agent.agent);
    this.#say("");
    this.#showFiles();
    this.#changed();
    this.#onSend(text, files);
    this.focus();
  }

  #changed() {
    if (this.#agent)
      lasting.set(`draft ${this.#agent.agent}`, this.#text.value.slice(0, 100_000));
    this.#grow();
    this.#show();
  }

  #grow() {
    if (GROWS_BY_ITSELF)
      return;
    this.#text.style.height = "auto";
    this.#text.style.height = `${this.#text.scrollHeight}px`;
  }

  #show() {
    const stops = this.#running && this.#empty;
    setIcon(this.#send, stops ? "stop" : "send");
    this.#send.classList.toggle("stop", stops);
    this.#send.disabled = this.#empty && !stops;
    this.#send.setAttribute("aria-label", stops ? "Stop the reply" : "Send");
    this.#send.title = stops ? "Stop (Esc)" : "Send (Enter)";
  }

  #say(text) {
    setText(this.#error, text);
    this.#error.hidden = text === "";
  }

  // --- files ---

  #add(files) {
    if (!this.#agent)
      return;
    const { taken, refused } = choose(this.#present, files);
    this.#files.set(this.#agent.agent, [...this.#present, ...taken]);
    this.#say(refused.join(" "));
    this.#showFiles();
    this.#show();
    this.focus();
  }

  #showFiles() {
    const files = this.#present;
    this.#chips.hidden = files.length === 0;
    this.#chips.replaceChildren(...files.map((file, i) => h("li", null, icon(isImage(file) ? "image" : "file"),
      h("span", { class: "file-name", title: file.name }, file.name),
      h("span", { class: "file-size" }, fileSize(file.size)),
      h("button", { type: "button", class: "icon-button small", "aria-label": `Remove ${file.name}`,
                    onclick: () => this.#remove(i) }, icon("close")))));
  }

  #remove(i) {
    this.#files.set(this.#agent.agent, this.#present.filter((_, n) => n !== i));
    this.#say("");
    this.#showFiles();
    this.#show();
    (this.#chips.querySelectorAll("button")[Math.min(i, this.#present.length - 1)] ?? this.#text).focus();
  }

  #takeDrops() {
    const main = byId("main"), drop = byId("drop");
    let inside = 0;
    const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
    main.addEventListener("dragenter", (event) => {
      if (!hasFiles(event))
        return;
      inside++;
      drop.hidden = false;
    });
    main.addEventListener("dragleave", (event) => {
      if (!hasFiles(event))
        return;
      inside = Math.max(inside - 1, 0);
      drop.hidden = inside === 0;
    });
    // Anywhere: a file beside the mark must not replace the page.
    window.addEventListener("dragover", (event) => {
      if (hasFiles(event))
        event.preventDefault();
    });
    window.addEventListener("drop", (event) => {
      if (!hasFiles(event))
        return;
      event.preventDefault();
      inside = 0;
      drop.hidden = true;
      this.#add([...event.dataTransfer.files]);
    });
  }
}
