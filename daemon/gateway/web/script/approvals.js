// SPDX-License-Identifier: MIT
// What agents want to do and may not without a word from somebody.

import { api } from "./api.js";
import { announce, byId, h, setText } from "./dom.js";
import { agentName, fileSize, timeLeft, toDate } from "./format.js";

const TOOLS = { Bash: "run a command", Write: "write a file", Edit: "change a file", Read: "read a file",
                WebFetch: "fetch a page from the web", WebSearch: "search the web" };

// What cannot be seen, or puts in another order what can, must not hide what somebody is asked to allow.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

export function visible(text) {
  return text.replace(UNSEEN, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

// The one member that says it all, when there is one; else all of them.
export function linesOf(input) {
  let value = input;
  if (typeof value === "string") {
    try {
      value = JSON.parse(value);
    } catch {
      return value;
    }
  }
  if (value === null || typeof value !== "object")
    return String(value);
  const entries = Object.entries(value);
  if (entries.length === 1 && typeof entries[0][1] === "string")
    return entries[0][1];
  return entries.map(([name, member]) => `${name}: ${typeof member === "string" ? member : JSON.stringify(member)}`)
    .join("\n");
}

export class Approvals {
  #place = byId("approvals");
  #agents;
  #onChange;
  #cards = new Map();
  #known = new Map();
  #selected = null;
  #loading = null;
  #again = false;

  constructor(agents, onChange) {
    this.#agents = agents;
    this.#onChange = onChange;
    setInterval(() => this.#tick(), 1000);
  }

  waitingFor(agent) {
    return [...this.#known.values()].filter((approval) => approval.agent === agent).length;
  }

  // The first agent but this one that waits.
  waitingElsewhere(agent) {
    return [...this.#known.values()].filter((approval) => approval.agent !== agent).map((approval) => approval.agent);
  }

  select(agent) {
    this.#selected = agent;
    this.#show();
  }

  // What came while this was under way is asked for once more.
  async load() {
    if (this.#loading) {
      this.#again = true;
      return this.#loading;
    }
    this.#loading = this.#load();
    try {
      await this.#loading;
    } finally {
      this.#loading = null;
    }
    if (this.#again) {
      this.#again = false;
      return this.load();
    }
  }

  async #load() {
    const { approvals } = await api.approvals();
    for (const approval of approvals)
      if (!this.#known.has(approval.id))
        announce(`${this.#name(approval)} asks whether it may ${this.#what(approval)}.`, true);
    this.#known = new Map(approvals.map((approval) => [approval.id, approval]));
    this.#show();
    this.#onChange();
  }

  #name(approval) {
    const agent = this.#agents.get(approval.agent);
    return agent ? agentName(agent) : approval.agent;
  }

  #what(approval) {
    return TOOLS[approval.tool] ?? `use ${visible(approval.tool)}`;
  }

  #show() {
    for (const [id, card] of this.#cards)
      if (this.#known.get(id)?.agent !== this.#selected) {
        card.element.remove();
        this.#cards.delete(id);
      }
    for (const approval of this.#known.values())
      if (approval.agent === this.#selected && !this.#cards.has(approval.id)) {
        const card = this.#make(approval);
        this.#cards.set(approval.id, card);
        this.#place.append(card.element);
      }
    this.#place.hidden = this.#cards.size === 0;
    this.#tick();
  }

  #make(approval) {
    const left = h("span", { class: "approval-time" }), error = h("p", { class: "field-error", role: "alert" });
    const decide = async (decision, button) => {
      buttons.forEach((b) => { b.disabled = true; });
      button.classList.add("working");
      setText(error, "");
      try {
        await api.decide(approval.id, decision);
        announce(decision === "allow" ? "Allowed." : "Denied.");
        this.#gone(approval.id);
      } catch (e) {
        if (e.status === 404 || e.status === 409) {
          announce("This was answered already.", true);
          this.#gone(approval.id);
          return;
        }
        setText(error, e.message);
        buttons.forEach((b) => { b.disabled = false; });
        button.classList.remove("working");
      }
    };
    const deny = h("button", { type: "button", class: "button", "data-decision": "deny",
                               onclick: () => decide("deny", deny) }, "Deny");
    const allow = h("button", { type: "button", class: "button primary", "data-decision": "allow",
                                onclick: () => decide("allow", allow) }, "Allow once");
    const buttons = [deny, allow];
    const title = `approval-${approval.id}`;
    // Of what is very long, the server shows no more than the beginning, as a text.
    const cut = typeof approval.input === "string" && approval.input_size > approval.input.length;
    const element = h("section", { class: "approval", "aria-labelledby": title, "data-approval": approval.id },
                      h("div", { class: "approval-head" },
                        h("h2", { id: title }, `${this.#name(approval)} wants to ${this.#what(approval)}`), left),
                      h("p", { class: "approval-tool" }, visible(approval.tool)),
                      h("pre", { class: "approval-input", tabindex: "0", "aria-label": "What exactly" },
                        visible(linesOf(approval.input ?? approval.summary))),
                      cut ? h("p", { class: "field-error" },
                              `This is only the beginning: all of it has ${fileSize(approval.input_size)}.`) : null,
                      error, h("div", { class: "approval-buttons" }, deny, allow));
    return { element, left, expires: toDate(approval.expires) };
  }

  #gone(id) {
    const card = this.#cards.get(id), hadFocus = card?.element.contains(document.activeElement);
    this.#known.delete(id);
    this.#show();
    this.#onChange();
    // The buttons are gone: the keyboard goes on where the next word is said.
    if (hadFocus || document.activeElement === document.body)
      (this.#place.querySelector("button") ?? byId("message")).focus();
    this.load().catch(() => {});
  }

  #tick() {
    for (const card of this.#cards.values())
      if (card.expires)
        setText(card.left, timeLeft((card.expires - Date.now()) / 1000));
  }
}
