// SPDX-License-Identifier: MIT
// The agents there are, as the server tells it while it happens, and the list of them.

import { api } from "./api.js";
import { byId, h, setText } from "./dom.js";
import { Feed } from "./feed.js";
import { agentName, hueOf, monogram, stateName } from "./format.js";

export function avatar(agent, className = "") {
  return h("span", { class: `avatar hue-${hueOf(agent.agent)} ${className}`, "aria-hidden": "true" }, monogram(agent));
}

function order(a, b) {
  return (b.agent === "manager") - (a.agent === "manager") || a.agent.localeCompare(b.agent);
}

// Events: "change" (detail: an agent's id, or null for all), "approval", "connection" (detail: whether there is one),
// "trouble" (detail: the error).
export class Agents extends EventTarget {
  #agents = new Map();
  #feed = new Feed((type, data) => this.#onEvent(type, data), () => this.#ask(true));
  #events = 0;
  #retry = null;
  #pause = 1000;
  loaded = false;
  connected = false;

  get(id) {
    return this.#agents.get(id) ?? null;
  }

  get all() {
    return [...this.#agents.values()].sort(order);
  }

  follow() {
    clearTimeout(this.#retry);
    // Another window may be the one that listens: what is known there is asked for here.
    if (!this.#feed.leads)
      this.#ask();
    this.#feed.start();
  }

  #onEvent(type, data) {
    this.#events++;
    if (type === "open")
      this.#pause = 1000;
    if (type === "open" || type === "cut")
      this.#setConnected(type === "open");
    else if (type === "agents")
      this.#take(data.agents);
    else if (type === "agent")
      this.#takeOne(data);
    else
      this.#tell("approval");
  }

  // Also tells why there are no events, which an EventSource does not say.
  async #ask(again = false) {
    const events = this.#events;
    try {
      const { agents } = await api.agents();
      // What was told meanwhile is newer.
      if (!this.loaded || this.#events === events)
        this.#take(agents);
      if (again)
        this.#later();
    } catch (e) {
      this.#tell("trouble", e);
      if (!e.passing)
        return;
      this.#setConnected(false);
      this.#later();
    }
  }

  #later() {
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.follow(), this.#pause);
    this.#pause = Math.min(this.#pause * 2, 15000);
  }

  // One that is known before the events tell of it.
  add(agent) {
    if (!this.#agents.has(agent.agent))
      this.#takeOne(agent);
  }

  #take(agents) {
    this.#agents = new Map(agents.map((agent) => [agent.agent, agent]));
    this.loaded = true;
    this.#tell("change", null);
  }

  #takeOne(agent) {
    if (agent.removed)
      this.#agents.delete(agent.agent);
    else
      this.#agents.set(agent.agent, agent);
    this.#tell("change", agent.agent);
  }

  #setConnected(connected) {
    this.connected = connected;
    this.#tell("connection", connected);
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

// The list at the side. marks(id) → {unread, waiting}.
export class AgentList {
  #list = byId("agents");
  #rows = new Map();
  #select;
  #marks;

  constructor(select, marks) {
    this.#select = select;
    this.#marks = marks;
  }

  show(agents, selected) {
    const ids = new Set(agents.map((agent) => agent.agent));
    for (const [id, row] of this.#rows)
      if (!ids.has(id)) {
        row.item.remove();
        this.#rows.delete(id);
      }
    agents.forEach((agent, i) => {
      let row = this.#rows.get(agent.agent);
      if (!row) {
        row = this.#make(agent);
        this.#rows.set(agent.agent, row);
      }
      this.#fill(row, agent, selected);
      if (this.#list.children[i] !== row.item)
        this.#list.insertBefore(row.item, this.#list.children[i] ?? null);
    });
  }

  #make(agent) {
    const name = h("span", { class: "agent-name" }), about = h("span", { class: "agent-about" });
    const badge = h("span", { class: "badge", hidden: true }), dot = h("span", { class: "dot" });
    const button = h("button", { type: "button", class: "agent", "data-agent": agent.agent,
                                 onclick: () => this.#select(agent.agent, true) },
                     h("span", { class: "avatar-box" }, avatar(agent), dot),
                     h("span", { class: "agent-text" }, name, about), badge);
    return { item: h("li", null, button), button, name, about, badge, dot };
  }

  #fill(row, agent, selected) {
    const { unread = 0, waiting = 0 } = this.#marks(agent.agent);
    const role = agent.name && agent.role ? agent.role : "";
    row.button.setAttribute("aria-current", agent.agent === selected ? "page" : "false");
    row.dot.dataset.state = agent.state;
    setText(row.name, agentName(agent));
    setText(row.about, waiting > 0 ? "Waits for you" : [role, stateName(agent.state)].filter(Boolean).join(" · "));
    row.button.title = agent.state === "failed" && agent.status_text ? agent.status_text : agent.agent;
    row.badge.hidden = unread === 0 && waiting === 0;
    row.badge.classList.toggle("urgent", waiting > 0);
    setText(row.badge, String(waiting || unread || ""));
    if (waiting > 0)
      row.badge.setAttribute("aria-label", waiting === 1 ? "one decision" : `${waiting} decisions`);
    else
      row.badge.setAttribute("aria-label", unread === 1 ? "one new message" : `${unread} new messages`);
    row.badge.setAttribute("role", "img");
  }
}
