// SPDX-License-Identifier: MIT
// The only way for a model's text to become elements: markdown, then the sanitiser, then our own buttons.

import DOMPurify from "../vendor/purify.es.mjs";
import { copyButton, h } from "./dom.js";
import { blocksOf, DATA_IMAGE, hasDefinitions, normalised, toHtml } from "./markdown-parse.js";

const PURIFY = {
  ALLOWED_TAGS: ["a", "b", "blockquote", "br", "code", "del", "details", "em", "h2", "h3", "h4", "h5", "h6", "hr", "i",
                 "img", "ins", "kbd", "li", "mark", "ol", "p", "pre", "s", "small", "strong", "sub", "summary", "sup",
                 "table", "tbody", "td", "th", "thead", "tr", "u", "ul", "#text"],
  ALLOWED_ATTR: ["align", "alt", "class", "href", "src", "start", "title"],
  ALLOWED_URI_REGEXP: /^(?:https?:\/\/|mailto:|data:image\/(?:png|jpeg|gif|webp);base64,)/i,
  // These two hold no address.
  ADD_URI_SAFE_ATTR: ["align", "start"],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  ALLOW_SELF_CLOSE_IN_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

const LANGUAGE = /^language-[\w+#.-]{1,30}$/;

const purify = DOMPurify(window);

purify.addHook("uponSanitizeAttribute", (node, data) => {
  if (data.attrName === "class" && !(node.nodeName === "CODE" && LANGUAGE.test(data.attrValue)))
    data.keepAttr = false;
  // The policy forbids all images but these, and says so in the console: do not even try.
  if (data.attrName === "src" && !(node.nodeName === "IMG" && DATA_IMAGE.test(data.attrValue)))
    data.keepAttr = false;
  if (data.attrName === "href" && !/^(?:https?:\/\/|mailto:)/i.test(data.attrValue))
    data.keepAttr = false;
});

purify.addHook("afterSanitizeAttributes", (node) => {
  if (node.nodeName === "A" && node.hasAttribute("href")) {
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer");
  }
});

export function sanitised(html) {
  return purify.sanitize(html, PURIFY);
}

function decorateCode(pre) {
  const code = pre.firstElementChild ?? pre;
  const language = [...code.classList].find((name) => LANGUAGE.test(name))?.slice(9) ?? "";
  const box = h("div", { class: "code" });
  pre.replaceWith(box);
  box.append(h("div", { class: "code-head" }, h("span", null, language || "text"),
               copyButton("Copy this code", () => code.textContent.replace(/\n$/, ""))), pre);
  pre.setAttribute("tabindex", "0");
}

function decorate(fragment) {
  for (const pre of fragment.querySelectorAll("pre"))
    decorateCode(pre);
  for (const table of fragment.querySelectorAll("table")) {
    const box = h("div", { class: "table", tabindex: "0", role: "group", "aria-label": "Table" });
    table.replaceWith(box);
    box.append(table);
  }
  return fragment;
}

function render(tokens) {
  return decorate(sanitised(toHtml(tokens)));
}

// A text that grows: blocks that are complete are made once, only the last one again and again.
export class MarkdownView {
  #element;
  #text = "";
  #settled = 0;
  #openNodes = [];
  #openCode = null;

  constructor(element) {
    this.#element = element;
  }

  show(text) {
    text = normalised(text);
    if (text === this.#text)
      return;
    if (!text.startsWith(this.#text.slice(0, this.#settled)))
      this.#forget();
    this.#text = text;

    const { settled, rest, settledLength } = blocksOf(text.slice(this.#settled));
    if (settled.length === 0 && this.#growCode(rest))
      return;
    for (const node of this.#openNodes)
      node.remove();
    if (settled.length > 0)
      this.#element.append(render(settled));
    this.#settled += settledLength;

    const open = render(rest);
    this.#openNodes = [...open.childNodes];
    const code = rest.length === 1 && rest[0].type === "code" ? open.querySelector("pre > code") : null;
    this.#openCode = code && { lang: rest[0].lang, element: code };
    this.#element.append(open);
  }

  // The text is complete.
  finish(text) {
    text = normalised(text);
    if (hasDefinitions(text))
      this.#forget();
    this.show(text);
  }

  // Long code that is being written must keep its place, its button and what is selected in it.
  #growCode(tokens) {
    if (!this.#openCode || tokens.length !== 1 || tokens[0].type !== "code" || tokens[0].lang !== this.#openCode.lang)
      return false;
    const { element } = this.#openCode, now = tokens[0].text + "\n";
    const node = element.firstChild;
    if (!node || node.nodeType !== Node.TEXT_NODE || element.childNodes.length !== 1)
      return false;
    const there = node.data.replace(/\n$/, "");
    if (now.startsWith(there))
      node.replaceData(there.length, node.data.length - there.length, now.slice(there.length));
    else
      node.data = now;
    return true;
  }

  #forget() {
    this.#element.replaceChildren();
    this.#text = "";
    this.#settled = 0;
    this.#openNodes = [];
    this.#openCode = null;
  }
}
