// SPDX-License-Identifier: MIT
// What this browser remembers. Without storage (private windows, policies) the page works and forgets.

function open(kind) {
  return {
    get(name, otherwise = null) {
      try {
        const text = window[kind].getItem(name);
        return text === null ? otherwise : JSON.parse(text);
      } catch {
        return otherwise;
      }
    },
    set(name, value) {
      try {
        if (value === null || value === "" || value === undefined)
          window[kind].removeItem(name);
        else
          window[kind].setItem(name, JSON.stringify(value));
      } catch { /* full or off */ }
    },
  };
}

export const lasting = open("localStorage");
export const ofThisTab = open("sessionStorage");

// Drafts, and what is said in turns that are running.
export function forgetTexts() {
  try {
    for (const name of Object.keys(localStorage).filter((key) => key.startsWith("draft ")))
      localStorage.removeItem(name);
    sessionStorage.clear();
  } catch { /* nothing is stored */ }
}
