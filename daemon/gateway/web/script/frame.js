// SPDX-License-Identifier: MIT
// The page around the conversations: its colours, and the list as a drawer where there is no room for it.

import { announce, byId, setIcon } from "./dom.js";
import { lasting } from "./storage.js";

const THEMES = { auto: ["auto", "Colours as the system has them"], light: ["sun", "Light colours"],
                 dark: ["moon", "Dark colours"] };

// Gives what goes on to the next one.
export function setUpTheme() {
  const button = byId("theme"), names = Object.keys(THEMES);
  let theme = lasting.get("theme", "auto");
  if (!THEMES[theme])
    theme = "auto";

  function show() {
    const [image, label] = THEMES[theme];
    setIcon(button, image);
    button.setAttribute("aria-label", label);
    button.title = label;
    if (theme === "auto")
      delete document.documentElement.dataset.theme;
    else
      document.documentElement.dataset.theme = theme;
  }

  function next() {
    theme = names[(names.indexOf(theme) + 1) % names.length];
    lasting.set("theme", theme === "auto" ? null : theme);
    show();
    announce(THEMES[theme][1]);
  }

  button.addEventListener("click", next);
  show();
  return next;
}

export function setUpDrawer() {
  const narrow = matchMedia("(max-width: 46rem)");
  const sidebar = byId("sidebar"), main = byId("main"), scrim = byId("scrim");
  const opener = byId("drawer-open"), closer = byId("drawer-close");
  let open = false;

  function show() {
    const drawn = narrow.matches && open;
    document.body.classList.toggle("drawer-open", drawn);
    scrim.hidden = !drawn;
    // What cannot be seen cannot be reached.
    sidebar.inert = narrow.matches && !open;
    main.inert = drawn;
    opener.setAttribute("aria-expanded", String(drawn));
  }

  // Whether there was something to close.
  function close() {
    if (!open || !narrow.matches)
      return false;
    open = false;
    show();
    opener.focus();
    return true;
  }

  setIcon(opener, "menu");
  setIcon(closer, "close");
  opener.addEventListener("click", () => {
    open = true;
    show();
    (sidebar.querySelector("[aria-current=page]") ?? closer).focus();
  });
  closer.addEventListener("click", close);
  scrim.addEventListener("click", close);
  narrow.addEventListener("change", () => {
    open = false;
    show();
  });
  show();
  return { close };
}
