// SPDX-License-Identifier: MIT
// The three dialogs. <dialog> keeps the focus inside and gives it back.

import { api, ApiError, onKeyNeeded } from "./api.js";
import { announce, byId, setText } from "./dom.js";
import { lasting } from "./storage.js";

const NAME = /^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$/i;

function prepare(id) {
  const dialog = byId(id);
  for (const button of dialog.querySelectorAll("[data-close]"))
    button.addEventListener("click", () => dialog.close());
  // A click on what is behind it.
  dialog.addEventListener("mousedown", (event) => {
    if (event.target !== dialog)
      return;
    const box = dialog.getBoundingClientRect();
    if (event.clientX < box.left || event.clientX > box.right || event.clientY < box.top || event.clientY > box.bottom)
      dialog.close();
  });
  return dialog;
}

function fieldError(input, text) {
  setText(byId(`${input.id}-error`), text);
  if (text)
    input.setAttribute("aria-invalid", "true");
  else
    input.removeAttribute("aria-invalid");
}

async function working(form, run) {
  const submit = form.querySelector("[type=submit]");
  submit.disabled = true;
  submit.classList.add("working");
  try {
    return await run();
  } finally {
    submit.disabled = false;
    submit.classList.remove("working");
  }
}

// f(agent) is called with what was hired.
export function setUpHire(onHired) {
  const dialog = prepare("hire-dialog"), form = dialog.querySelector("form"), problem = byId("hire-error");
  const role = byId("hire-role"), name = byId("hire-name");

  function check(input, what) {
    const value = input.value.trim();
    const text = !value ? `What ${what}?` : NAME.test(value) ? "" :
      "Letters, digits and hyphens, with a letter or digit at both ends, at most 32.";
    fieldError(input, text);
    return !text;
  }

  form.noValidate = true;
  role.addEventListener("input", () => fieldError(role, ""));
  name.addEventListener("input", () => fieldError(name, ""));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    problem.hidden = true;
    const good = [check(role, "role"), check(name, "name")];
    if (!good[0] || !good[1]) {
      (good[0] ? name : role).focus();
      return;
    }
    try {
      const agent = await working(form, () => api.hire(role.value.trim(), name.value.trim()));
      dialog.close();
      announce(agent.created === false ? `${agent.agent} was here already.` : `${agent.agent} is hired.`);
      onHired(agent);
    } catch (e) {
      const input = { role, name }[e.param];
      if (input) {
        fieldError(input, e.message);
        input.focus();
      } else {
        setText(problem, e instanceof ApiError ? e.message : String(e));
        problem.hidden = false;
      }
    }
  });

  return () => {
    if (dialog.open)
      return;
    form.reset();
    fieldError(role, "");
    fieldError(name, "");
    problem.hidden = true;
    dialog.showModal();
    role.focus();
  };
}

export function setUpKey(onChange) {
  const dialog = prepare("key-dialog"), form = dialog.querySelector("form"), key = byId("key");
  const forget = byId("forget");
  let waiting = null, refusedAt = 0;

  function showForget() {
    forget.hidden = !lasting.get("has-key");
  }

  form.noValidate = true;
  key.addEventListener("input", () => fieldError(key, ""));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!key.value) {
      fieldError(key, "Which key? It was set as AGENT_PROXY_API_KEY.");
      key.focus();
      return;
    }
    try {
      await working(form, () => api.signIn(key.value));
      dialog.returnValue = "good";
      lasting.set("has-key", true);
      showForget();
      dialog.close("good");
    } catch (e) {
      fieldError(key, e.status === 401 ? "This is not the key." : e.message);
      key.focus();
      key.select();
    }
  });

  // All requests that want a key wait for the same answer.
  function ask() {
    waiting ??= new Promise((resolve) => {
      // Who has just said "not now" is not asked by every request that was under way.
      if (Date.now() - refusedAt < 3000) {
        resolve(false);
        return;
      }
      form.reset();
      fieldError(key, "");
      dialog.returnValue = "";
      dialog.addEventListener("close", () => {
        const good = dialog.returnValue === "good";
        form.reset();
        refusedAt = good ? 0 : Date.now();
        resolve(good);
        if (good)
          onChange(true);
      }, { once: true });
      dialog.showModal();
      key.focus();
    }).finally(() => { waiting = null; });
    return waiting;
  }

  onKeyNeeded(ask);
  showForget();
  forget.addEventListener("click", async () => {
    try {
      await api.signOut();
    } catch (e) {
      announce(e.message, true);
      return;
    }
    lasting.set("has-key", null);
    showForget();
    announce("The key is forgotten.");
    onChange(false);
  });
  return () => {
    refusedAt = 0;
    return ask();
  };
}

export function setUpHelp() {
  const dialog = prepare("help-dialog");
  return () => {
    if (!dialog.open)
      dialog.showModal();
  };
}
