// SPDX-License-Identifier: MIT
// Elements without markup: whatever text comes in stays text.

const SVG = "http://www.w3.org/2000/svg";

// Own drawings on a grid of 24, stroked.
const ICONS = {
  menu: "M4 7h16M4 12h16M4 17h10",
  close: "M6 6l12 12M18 6L6 18",
  attach: "M12 5v14M5 12h14",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M8 8h8v8H8z",
  copy: "M9 9h10v10H9zM15 9V5H5v10h4",
  check: "M5 12.5l4.5 4.5L19 7.5",
  file: "M7 3h7l4 4v14H7zM14 3v4h4",
  image: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15 9.5v.01",
  down: "M12 5v14M6 13l6 6 6-6",
  retry: "M19 12a7 7 0 1 1-2.2-5.1M19 4v4h-4",
  help: "M9.5 9.5a2.5 2.5 0 1 1 3.6 2.2c-.8.4-1.1.9-1.1 1.8M12 16.5v.01" +
        "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8M12 3v1.5M12 19.5V21M3 12h1.5M19.5 12H21M5.6 5.6l1.1 1.1M17.3 17.3l1.1 1.1" +
       "M5.6 18.4l1.1-1.1M17.3 6.7l1.1-1.1",
  moon: "M19.5 14.5A8 8 0 0 1 9.5 4.5a8 8 0 1 0 10 10",
  auto: "M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16M12 4v16M12 8h4.5M12 12h8M12 16h4.5",
  key: "M14.5 4a5.5 5.5 0 1 0-4.3 8.9L12 11l-8 8v2h3v-2h2v-2h2l1.5-1.5A5.5 5.5 0 0 0 14.5 4M15.5 8.5v.01",
  warning: "M12 4l9 16H3zM12 10v4M12 17v.01",
};

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg"), path = document.createElementNS(SVG, "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "icon");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

// h("button", {type: "button", class: "x", onclick: f}, "text", element, null)
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false)
      continue;
    if (name.startsWith("on"))
      element.addEventListener(name.slice(2), value);
    else
      element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const byId = (id) => document.getElementById(id);

// Writes only what is different: screen readers and the layout notice every write.
export function setText(element, text) {
  if (element.textContent !== text)
    element.textContent = text;
}

export function setIcon(button, name) {
  if (button.dataset.icon === name)
    return;
  button.dataset.icon = name;
  button.querySelector("svg")?.remove();
  button.prepend(icon(name));
}

export function announce(text, alarm = false) {
  const region = byId(alarm ? "alarm" : "announcer");
  region.textContent = "";
  // Some readers miss a text that comes in the same task as the empty one.
  setTimeout(() => { region.textContent = text; }, 50);
}

export async function copyText(text) {
  if (navigator.clipboard && window.isSecureContext)
    return navigator.clipboard.writeText(text);
  // Over plain HTTP from another machine there is no clipboard but the old way.
  const area = h("textarea", { class: "visually-hidden", "aria-hidden": "true", tabindex: "-1" });
  const focused = document.activeElement;
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  focused?.focus();
  if (!done)
    throw new Error("The browser does not let this page copy.");
}

export function copyButton(label, getText) {
  const button = h("button", { type: "button", class: "icon-button small copy", "aria-label": label, title: label },
                   icon("copy"));
  button.addEventListener("click", async () => {
    try {
      await copyText(getText());
      setIcon(button, "check");
      announce("Copied.");
    } catch {
      setIcon(button, "warning");
      announce("The browser does not let this page copy.", true);
    }
    setTimeout(() => setIcon(button, "copy"), 1600);
  });
  return button;
}
