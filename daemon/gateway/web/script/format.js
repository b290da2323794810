// SPDX-License-Identifier: MIT

export function capitalised(text) {
  return text ? text[0].toUpperCase() + text.slice(1) : "";
}

export function agentName(agent) {
  return agent.name ? capitalised(agent.name) : capitalised(agent.role || agent.agent);
}

const STATES = {
  ready: "Ready", busy: "Working", starting: "Starting", restarting: "Restarting", stopping: "Stopping",
  stopped: "Stopped", failed: "Cannot work", missing: "Workspace is gone",
};

export function stateName(state) {
  return STATES[state] ?? capitalised(state ?? "");
}

// One of eight colours, always the same for the same agent.
export function hueOf(id) {
  let hash = 7;
  for (const c of id)
    hash = (hash * 31 + c.codePointAt(0)) >>> 0;
  return hash % 8;
}

export function monogram(agent) {
  return [...agentName(agent)][0] ?? "?";
}

// Seconds, milliseconds or an ISO text.
export function toDate(at) {
  if (typeof at === "number")
    return new Date(at < 1e11 ? at * 1000 : at < 1e14 ? at : at / 1000);
  return at ? new Date(at) : null;
}

export function sameDay(a, b) {
  return a && b && a.toDateString() === b.toDateString();
}

export function dayName(date, now = new Date()) {
  const yesterday = new Date(now);
  yesterday.setDate(now.getDate() - 1);
  if (sameDay(date, now))
    return "Today";
  if (sameDay(date, yesterday))
    return "Yesterday";
  return date.toLocaleDateString(undefined, {
    weekday: "long", day: "numeric", month: "long",
    year: date.getFullYear() === now.getFullYear() ? undefined : "numeric",
  });
}

export function clockTime(date) {
  return date.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" });
}

export function fileSize(bytes) {
  if (bytes < 1000)
    return `${bytes} B`;
  if (bytes < 999_500)
    return `${Math.round(bytes / 1000)} kB`;
  return `${(bytes / 1e6).toFixed(bytes < 9_950_000 ? 1 : 0)} MB`;
}

export function timeLeft(seconds) {
  if (seconds <= 0)
    return "time is up";
  if (seconds < 60)
    return `${Math.ceil(seconds)} s left`;
  return `${Math.round(seconds / 60)} min left`;
}
