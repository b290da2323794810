// SPDX-License-Identifier: MIT
// Not a module: it runs before anything is painted, so that nobody sees the wrong colours first.
(function () {
  "use strict";
  var theme = null;
  try {
    theme = JSON.parse(localStorage.getItem("theme"));
  } catch { /* storage may be off: then the system's colours it is */ }
  if (theme === "light" || theme === "dark")
    document.documentElement.dataset.theme = theme;
})();
