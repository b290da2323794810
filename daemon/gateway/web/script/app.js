// SPDX-License-Identifier: MIT
// Brings the parts of the page together.

import { AgentList, Agents } from "./agents.js";
import { Approvals } from "./approvals.js";
import { Composer } from "./composer.js";
import { Conversation, speak } from "./conversation.js";
import { setUpHelp, setUpHire, setUpKey } from "./dialogs.js";
import { announce, byId, h, setIcon, setText } from "./dom.js";
import { agentName, stateName } from "./format.js";
import { setUpDrawer, setUpTheme } from "./frame.js";
import { forgetTexts, lasting } from "./storage.js";

const agents = new Agents();
const conversations = new Map();
const unread = new Map();
const states = new Map();
let selected = null;
let trouble = null;

const approvals = new Approvals(agents, () => show());
const list = new AgentList(select, (id) => ({ unread: unread.get(id) ?? 0, waiting: approvals.waitingFor(id) }));
const composer = new Composer({
  onSend: (text, files) => current()?.send(text, files),
  onStop: () => current()?.stop(),
});
const drawer = setUpDrawer();
const nextTheme = setUpTheme();
const showHelp = setUpHelp();
const showHire = setUpHire((agent) => {
  agents.add(agent);
  select(agent.agent, true);
});
const askForKey = setUpKey((known) => {
  if (known) {
    startAgain();
    return;
  }
  // Nothing of what was said with the key stays behind.
  forgetTexts();
  location.reload();
});

const current = () => conversations.get(selected);

function startAgain() {
  trouble = null;
  agents.follow();
  approvals.load().catch(() => {});
  for (const conversation of conversations.values())
    conversation.refresh();
}

// Another window of this browser has got the key, or has given it back.
window.addEventListener("storage", (event) => {
  if (event.key !== "has-key")
    return;
  if (event.newValue === null)
    location.reload();
  else if (trouble)
    startAgain();
});

function conversationWith(agent) {
  let conversation = conversations.get(agent.agent);
  if (!conversation) {
    conversation = new Conversation(agent);
    conversation.addEventListener("turns", () => {
      if (agent.agent === selected)
        composer.setRunning(conversation.running);
      conversation.setWorking(agents.get(agent.agent)?.state === "busy");
    });
    conversation.addEventListener("reply", (event) => speak(agent, event.detail));
    conversations.set(agent.agent, conversation);
  }
  return conversation;
}

// focus: somebody chose it, and wants to write now.
function select(id, focus = false) {
  const agent = agents.get(id);
  if (!agent)
    return;
  selected = id;
  lasting.set("selected", id);
  unread.delete(id);
  const conversation = conversationWith(agent);
  if (conversation.element.parentNode === null)
    byId("conversations").append(conversation.element);
  for (const other of conversations.values())
    other.element.hidden = other !== conversation;
  conversation.open();
  conversation.setWorking(agent.state === "busy");
  conversation.toEnd();
  composer.select(agent);
  composer.setRunning(conversation.running);
  approvals.select(id);
  drawer.close();
  // On a telephone that would bring up the keyboard.
  if (focus && !matchMedia("(pointer: coarse)").matches)
    composer.focus();
  show();
}

// What was not selected by hand: the one from the last time, or the manager.
function selectFirst() {
  const wanted = [selected, lasting.get("selected"), "manager", agents.all[0]?.agent];
  const id = wanted.find((candidate) => candidate && agents.get(candidate));
  if (id && id !== selected)
    select(id);
}

function showNote() {
  const note = byId("agents-note");
  let children = [];
  if (trouble)
    children = [trouble.message, trouble.status === 401 && trouble.code !== "api_key_required" ?
      h("button", { type: "button", class: "link", onclick: askForKey }, "Enter the key") :
      h("button", { type: "button", class: "link", onclick: startAgain }, "Try again")];
  else if (agents.loaded && agents.all.length === 0)
    children = ["No agents yet. Hire the first one."];
  else if (!agents.loaded)
    children = ["Looking for agents …"];
  note.hidden = children.length === 0;
  note.replaceChildren(...children);
}

function show() {
  const agent = agents.get(selected);
  list.show(agents.all, selected);
  showNote();
  byId("composer").inert = !agent;
  if (agent) {
    const role = agent.name && agent.role ? agent.role : "";
    setText(byId("title"), agentName(agent));
    setText(byId("subtitle"), [role, agent.state === "failed" && agent.status_text ? agent.status_text :
                               stateName(agent.state)].filter(Boolean).join(" · "));
    byId("subtitle").dataset.state = agent.state;
  }
  const elsewhere = byId("elsewhere"), waiting = agents.get(approvals.waitingElsewhere(selected)[0]);
  elsewhere.hidden = !waiting;
  if (waiting) {
    setText(elsewhere, `${agentName(waiting)} waits for you`);
    elsewhere.dataset.agent = waiting.agent;
  }
  const news = [...unread.values()].reduce((a, b) => a + b, 0);
  document.title = `${news > 0 ? `(${news}) ` : ""}${agent ? `${agentName(agent)} – ` : ""}Puffo agents`;
}

// An agent that ends a turn has said something, whoever asked.
function takeNews(id) {
  const agent = agents.get(id), before = states.get(id);
  if (!agent) {
    states.delete(id);
    return;
  }
  states.set(id, agent);
  const conversation = conversations.get(id);
  const ended = before && (before.state === "busy" && agent.state !== "busy" ||
                           agent.last_turn_ms > 0 && agent.last_turn_ms !== before.last_turn_ms);
  if (ended && (id !== selected || document.hidden))
    unread.set(id, (unread.get(id) ?? 0) + 1);
  conversation?.setWorking(agent.state === "busy");
  if (ended)
    conversation?.refresh();
}

agents.addEventListener("change", (event) => {
  trouble = null;
  for (const id of event.detail === null ? agents.all.map((agent) => agent.agent) : [event.detail])
    takeNews(id);
  // After a cut, turns may have come and gone unseen.
  if (event.detail === null)
    current()?.refresh();
  selectFirst();
  show();
});
agents.addEventListener("approval", () => approvals.load().catch((e) => announce(e.message, true)));
agents.addEventListener("connection", (event) => {
  const connection = byId("connection");
  setText(connection, event.detail ? "" : "Offline. Trying again …");
  document.body.classList.toggle("offline", !event.detail);
  if (event.detail)
    approvals.load().catch(() => {});
});
agents.addEventListener("trouble", (event) => {
  trouble = event.detail;
  show();
});

byId("hire").addEventListener("click", showHire);
byId("elsewhere").addEventListener("click", (event) => select(event.currentTarget.dataset.agent, true));
byId("help").addEventListener("click", showHelp);
setIcon(byId("help"), "help");
setIcon(byId("forget"), "key");
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && selected) {
    unread.delete(selected);
    show();
  }
});

function step(by) {
  const ids = agents.all.map((agent) => agent.agent);
  select(ids[(ids.indexOf(selected) + by + ids.length) % ids.length], true);
}

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.isComposing || event.ctrlKey || event.metaKey ||
      document.querySelector("dialog[open]"))
    return;
  if (event.key === "Escape") {
    if (drawer.close())
      return;
    current()?.stop();
    return;
  }
  if (event.altKey) {
    if ((event.key === "ArrowDown" || event.key === "ArrowUp") && agents.all.length > 0) {
      event.preventDefault();
      step(event.key === "ArrowDown" ? 1 : -1);
    }
    return;
  }
  if (event.target.closest("input, textarea, select, [contenteditable]"))
    return;
  const action = { "?": showHelp, "/": () => composer.focus(), n: showHire, t: nextTheme }[event.key];
  if (action) {
    event.preventDefault();
    action();
  }
});

show();
startAgain();
