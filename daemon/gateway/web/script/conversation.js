// SPDX-License-Identifier: MIT
// What was said between people and one agent: its history from the server, and the turns that this page began.

import { api } from "./api.js";
import { inputOf } from "./attachments.js";
import { announce, h, icon, setText } from "./dom.js";
import { agentName, dayName, sameDay, toDate } from "./format.js";
import { avatar } from "./agents.js";
import { MessageView } from "./message.js";
import { ofThisTab } from "./storage.js";
import { Turn } from "./turn.js";

const PINNED_WITHIN = 60;       // pixels from the end that count as the end
const REMEMBERED_TEXT_MAX = 50_000;
const STOPPING_FOR = 3000;      // milliseconds

// Events: "turns" (one began or ended), "reply" (detail: the text of one that ended).
export class Conversation extends EventTarget {
  #agent;
  #list = h("ol", { class: "messages" });
  #top = h("div", { class: "top" });
  #state = h("div", { class: "state" });
  #working;
  #workingNote = h("span", { role: "status" });
  #interrupt = h("button", { type: "button", class: "link", onclick: () => this.#stopWorking() }, "Stop");
  #scroller;
  #latest;
  #known = new Map();           // message id → view
  #turns = new Map();           // response id → {user, reply}, those of this page
  #running = new Set();
  #hasMore = false;
  #loadingOlder = false;
  #opened = false;
  #pinned = true;
  #lastTop = 0;
  #frame = 0;
  #dirty = new Set();
  #refreshing = null;
  #refreshAgain = false;

  constructor(agent) {
    super();
    this.#agent = agent;
    this.#working = h("li", { class: "message assistant thinking elsewhere", hidden: true }, avatar(agent, "small"),
                      h("div", { class: "message-main" }, h("div", { class: "markdown" }),
                        h("div", { class: "note" }, this.#workingNote, this.#interrupt)));
    this.#latest = h("button", { type: "button", class: "latest", "aria-label": "To the latest message", hidden: true,
                                 onclick: () => this.toEnd(true) }, icon("down"));
    this.#scroller = h("div", { class: "scroller", tabindex: "0", role: "region",
                                "aria-label": `Conversation with ${agentName(agent)}` },
                       h("div", { class: "column" }, this.#top, this.#state, this.#list));
    this.element = h("div", { class: "conversation", "data-agent": agent.agent }, this.#scroller, this.#latest);
    this.#list.append(this.#working);

    this.#scroller.addEventListener("scroll", () => this.#onScroll(), { passive: true });
    // After each layout, before it is painted: growing text at the end never makes a second one.
    const sizes = new ResizeObserver(() => this.#keepEnd());
    sizes.observe(this.#list);
    sizes.observe(this.#scroller);
    new IntersectionObserver((entries) => {
      if (entries.some((entry) => entry.isIntersecting))
        this.#older();
    }, { root: this.#scroller, rootMargin: "600px 0px 0px" }).observe(this.#top);
  }

  get running() {
    return this.#running.size > 0;
  }

  // --- where one looks ---

  // Only somebody who scrolls up leaves the end: text that has just come in puts it further away, too.
  #onScroll() {
    const s = this.#scroller, atEnd = s.scrollHeight - s.scrollTop - s.clientHeight < PINNED_WITHIN;
    if (atEnd)
      this.#pinned = true;
    else if (s.scrollTop < this.#lastTop)
      this.#pinned = false;
    this.#lastTop = s.scrollTop;
    this.#latest.hidden = this.#pinned;
  }

  #keepEnd() {
    if (this.#pinned)
      this.#scroller.scrollTop = this.#scroller.scrollHeight;
    else
      this.#onScroll();
  }

  toEnd(smooth = false) {
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.#pinned = true;
    this.#latest.hidden = true;
    this.#scroller.scrollTo({ top: this.#scroller.scrollHeight, behavior: smooth && !calm ? "smooth" : "instant" });
  }

  // --- history ---

  open() {
    if (this.#opened)
      return;
    this.#opened = true;
    this.#load();
  }

  async #load() {
    this.#skeleton();
    try {
      const page = await api.messages(this.#agent.agent);
      this.#hasMore = page.has_more;
      this.#state.replaceChildren();
      this.#merge(page.messages);
      this.#resume(page.messages);
      this.#empty();
      this.#keepEnd();
    } catch (e) {
      this.#trouble(e, () => this.#load());
    }
  }

  #skeleton() {
    if (this.#known.size === 0 && this.#turns.size === 0)
      this.#state.replaceChildren(h("div", { class: "skeleton", role: "status", "aria-label": "Loading" },
                                    h("i"), h("i"), h("i")));
  }

  #empty() {
    if (this.#known.size > 0 || this.#turns.size > 0 || this.#running.size > 0) {
      this.#state.replaceChildren();
      return;
    }
    const name = agentName(this.#agent);
    this.#state.replaceChildren(h("div", { class: "empty" }, avatar(this.#agent, "large"), h("h2", null, name),
      h("p", null, this.#agent.agent === "manager" ?
        "Your first contact. Say what you need: the manager does it, or hires who can." :
        `Nothing has been said yet. ${name} remembers what you agree on.`)));
  }

  #trouble(error, again) {
    this.#state.replaceChildren(h("div", { class: "trouble", role: "alert" }, icon("warning"),
      h("p", null, `The conversation cannot be shown: ${error.message}`),
      h("button", { type: "button", class: "button", onclick: again }, "Try again")));
  }

  async #older() {
    if (!this.#hasMore || this.#loadingOlder || !this.#known.size)
      return;
    this.#loadingOlder = true;
    this.#top.replaceChildren(h("span", { class: "spinner", role: "status", "aria-label": "Loading older messages" }));
    try {
      const page = await api.messages(this.#agent.agent, String(this.#known.keys().next().value));
      this.#top.replaceChildren();
      // A page that brings nothing must not be asked for for ever.
      this.#hasMore = page.has_more && page.messages.some((m) => !this.#known.has(m.id));
      const fromEnd = this.#scroller.scrollHeight - this.#scroller.scrollTop;
      this.#prepend(page.messages);
      this.#scroller.scrollTop = this.#scroller.scrollHeight - fromEnd;
    } catch (e) {
      this.#top.replaceChildren(h("button", { type: "button", class: "link", onclick: () => this.#older() },
                                  `Older messages cannot be shown: ${e.message} Try again`));
    } finally {
      this.#loadingOlder = false;
    }
    // Still in sight: the observer says so only once.
    if (this.#hasMore && this.#scroller.scrollTop < 600 && this.#top.children.length === 0)
      this.#older();
  }

  #view(m) {
    return new MessageView(this.#agent, { role: m.role, text: m.text ?? "", date: toDate(m.at), files: m.files });
  }

  #prepend(messages) {
    const fresh = messages.filter((m) => !this.#known.has(m.id));
    const views = fresh.map((m) => [m.id, this.#view(m)]);
    this.#list.prepend(...views.map(([, view]) => view.element));
    // The oldest comes first there, too.
    this.#known = new Map([...views, ...this.#known]);
    this.#days();
  }

  // The newest messages as the server has them; what this page shows of its own turns becomes theirs. Gives the views
  // of those that were not shown before.
  #merge(messages) {
    const added = [];
    if (this.#known.size > 0 && messages.length > 0 && this.#hasMore &&
        !messages.some((m) => this.#known.has(m.id) || this.#turns.has(m.response_id)))
      this.#forget();
    let last = null;            // of those that the server has, the one before this
    for (const m of messages) {
      const own = this.#turns.get(m.response_id)?.[m.role === "user" ? "user" : "reply"];
      let view = this.#known.get(m.id);
      if (!view && own && ![...this.#known.values()].includes(own)) {
        view = own;
        this.#known.set(m.id, own);
        // A reply that is still being streamed is ahead of what is stored.
        if (m.role !== "user" && !own.growing)
          own.finish(m.text ?? "", toDate(m.at));
      }
      if (!view) {
        view = this.#view(m);
        this.#known.set(m.id, view);
        this.#list.insertBefore(view.element, last ? this.#behind(last) : this.#firstRunning(m));
        added.push(view);
      }
      // One that was tried again is shown no more.
      if (view.element.isConnected)
        last = view.element;
    }
    this.#days();
    return added;
  }

  // More than a page has been said meanwhile: what is between is not known, so begin anew.
  #forget() {
    const own = new Set([...this.#turns.values()].flatMap((turn) => turn.over ? [] : [turn.user, turn.reply]));
    for (const [id, view] of this.#known)
      if (!own.has(view)) {
        view.element.remove();
        this.#known.delete(id);
      }
  }

  // A question and the reply to it stay together.
  #behind(element) {
    for (const { user, reply } of this.#turns.values())
      if (user.element === element && reply.element.previousElementSibling === element)
        return reply.element.nextElementSibling;
    return element.nextElementSibling;
  }

  #firstRunning(m) {
    for (const [id, turn] of this.#turns)
      if (!turn.over && id !== m.response_id)
        return turn.user.element;
    return this.#working;
  }

  #days() {
    for (const separator of this.#list.querySelectorAll(":scope > .day"))
      separator.remove();
    const dates = new Map();
    for (const view of this.#known.values())
      dates.set(view.element, view.date);
    for (const turn of this.#turns.values())
      for (const view of [turn.user, turn.reply])
        dates.set(view.element, view.date);
    let last = null;
    for (const item of [...this.#list.children]) {
      const date = dates.get(item);
      if (date && !sameDay(date, last)) {
        this.#list.insertBefore(h("li", { class: "day" }, h("span", null, dayName(date))), item);
        last = date;
      }
    }
  }

  // Something was said, perhaps by others. One request at a time; what comes meanwhile is asked for behind it.
  async refresh() {
    if (!this.#opened)
      return;
    if (this.#refreshing) {
      this.#refreshAgain = true;
      return this.#refreshing;
    }
    this.#refreshing = (async () => {
      try {
        const page = await api.messages(this.#agent.agent);
        if (this.#known.size === 0)
          this.#hasMore = page.has_more;
        const news = this.#merge(page.messages).filter((view) => view.role === "assistant" && view.text);
        this.#empty();
        if (news.length > 0 && !this.element.hidden)
          this.dispatchEvent(new CustomEvent("reply", { detail: news.at(-1).text }));
      } catch (e) {
        if (!e.passing)
          this.#trouble(e, () => this.refresh());
      }
    })();
    await this.#refreshing;
    this.#refreshing = null;
    if (this.#refreshAgain) {
      this.#refreshAgain = false;
      return this.refresh();
    }
  }

  // The agent works on something that this page did not ask for.
  setWorking(working) {
    const hidden = !working || this.running;
    if (hidden === this.#working.hidden)
      return;
    this.#working.hidden = hidden;
    this.#sayWorking();
  }

  #sayWorking() {
    this.#interrupt.hidden = false;
    setText(this.#workingNote, this.#working.hidden ? "" : `${agentName(this.#agent)} is working.`);
  }

  async #stopWorking() {
    this.#interrupt.hidden = true;
    setText(this.#workingNote, `${agentName(this.#agent)} is being stopped.`);
    this.#scroller.focus();
    try {
      await api.interrupt(this.#agent.agent);
      // Should it be at the next one by then.
      setTimeout(() => this.#sayWorking(), STOPPING_FOR);
    } catch (e) {
      this.#interrupt.hidden = false;
      setText(this.#workingNote, `${agentName(this.#agent)} cannot be stopped: ${e.message}`);
    }
  }

  // --- turns ---

  async send(text, files) {
    const names = files.map((file) => file.name);
    const entry = this.#begin({ text, files: names });
    const again = () => {
      entry.user.element.remove();
      entry.reply.element.remove();
      this.send(text, files);
    };
    let input;
    try {
      input = await inputOf(text, files);
    } catch (e) {
      this.#notSent(entry, e, again);
      return;
    }
    entry.turn = new Turn(this.#agent.agent, input, () => this.#changed(entry));
    await this.#run(entry, again);
  }

  #begin(said) {
    const user = new MessageView(this.#agent, { role: "user", date: new Date(), ...said });
    const reply = new MessageView(this.#agent, { role: "assistant", text: "", date: new Date() });
    const entry = { said, user, reply, turn: null, over: false };
    this.#state.replaceChildren();
    this.#running.add(entry);
    this.#working.hidden = true;
    this.#list.insertBefore(user.element, this.#working);
    this.#list.insertBefore(reply.element, this.#working);
    reply.growing = true;
    reply.grow("");
    this.#days();
    this.toEnd();
    this.#tell("turns");
    return entry;
  }

  async #run(entry, again) {
    try {
      await entry.turn.run();
    } catch (e) {
      this.#end(entry);
      if (entry.turn.answer.id && e.status === 404) {
        // Nobody knows of it any more: what there is of it is in the history.
        this.#drop(entry);
        this.refresh();
      } else if (entry.turn.answer.id)
        entry.reply.note(`What became of this cannot be told: ${e.message}`, { error: true });
      else
        this.#notSent(entry, e, again);
      return;
    }
    const { answer } = entry.turn;
    this.#end(entry);
    entry.reply.finish(answer.text, new Date());
    if (answer.status === "failed")
      entry.reply.note(answer.error || "The agent could not answer.",
                       { error: true, action: { label: "Try again", run: again } });
    else if (answer.status !== "completed")
      entry.reply.note(entry.stopped ? "Stopped." : "The reply ends here: the turn was stopped.");
    if (answer.text)
      this.dispatchEvent(new CustomEvent("reply", { detail: answer.text }));
    this.refresh();
  }

  #end(entry) {
    entry.over = true;
    entry.reply.growing = false;
    this.#dirty.delete(entry);
    this.#running.delete(entry);
    entry.reply.note("");
    this.#remember();
    this.#tell("turns");
  }

  #drop(entry) {
    entry.user.element.remove();
    entry.reply.element.remove();
    this.#turns.delete(entry.turn.answer.id);
  }

  #notSent(entry, error, again) {
    if (!entry.over)
      this.#end(entry);
    entry.reply.element.remove();
    entry.user.note(`Not sent: ${error.message}`, { error: true, action: { label: "Try again", run: again } });
    this.toEnd();
  }

  #changed(entry) {
    const { id } = entry.turn.answer;
    if (id && !this.#turns.has(id)) {
      this.#turns.set(id, entry);
      this.#remember();
    }
    this.#dirty.add(entry);
    this.#frame ||= requestAnimationFrame(() => this.#render());
  }

  // Once a frame, however many words have come.
  #render() {
    this.#frame = 0;
    for (const entry of this.#dirty) {
      const { answer, connected } = entry.turn;
      entry.reply.grow(answer.text);
      if (!connected)
        entry.reply.note("The connection is lost. The agent goes on; trying to reach it again …");
      else if (answer.status === "queued")
        entry.reply.note("Waits for its turn.");
      else
        entry.reply.note("");
    }
    this.#dirty.clear();
  }

  // The one that is being answered; those that wait behind it come next.
  stop() {
    const entry = [...this.#running].find(({ turn, stopped }) => turn && !stopped);
    if (!entry)
      return;
    entry.stopped = true;
    entry.turn.stop().catch((e) => {
      entry.stopped = false;
      entry.reply.note(`It cannot be stopped: ${e.message}`, { error: true });
    });
  }

  // For a page that is loaded again while its turns run.
  #remember() {
    const all = ofThisTab.get("turns", {});
    all[this.#agent.agent] = [...this.#turns].filter(([, entry]) => !entry.over)
      .map(([id, { said }]) => ({ id, text: said.text.slice(0, REMEMBERED_TEXT_MAX), files: said.files }));
    ofThisTab.set("turns", all);
  }

  #resume(messages) {
    for (const { id, text, files } of ofThisTab.get("turns", {})[this.#agent.agent] ?? []) {
      const stored = messages.filter((m) => m.response_id === id);
      // It ended while nobody looked.
      if (this.#turns.has(id) || stored.some((m) => m.role === "assistant"))
        continue;
      for (const m of stored) {
        this.#known.get(m.id).element.remove();
        this.#known.delete(m.id);
      }
      const entry = this.#begin({ text, files });
      this.#turns.set(id, entry);
      entry.turn = Turn.again(this.#agent.agent, id, () => this.#changed(entry));
      this.#run(entry, () => this.send(text, []));
    }
    this.#remember();
  }

  #tell(type) {
    this.dispatchEvent(new Event(type));
  }
}

export function speak(agent, text) {
  announce(`${agentName(agent)}: ${text.length > 1500 ? text.slice(0, 1500) + " …" : text}`);
}
