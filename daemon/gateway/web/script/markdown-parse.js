// SPDX-License-Identifier: MIT
// Markdown to HTML that is not yet to be trusted: markdown.js sanitises it.

import { Marked } from "../vendor/marked.esm.js";

// Markup within markdown that people expect to work. All other shows as the text that it is.
const INLINE_TAG = /^<(\/?(?:b|i|u|s|em|strong|kbd|mark|sub|sup|small|del|ins|details|summary)|br ?\/?|hr ?\/?)>$/i;
export const DATA_IMAGE = /^data:image\/(?:png|jpeg|gif|webp);base64,/i;

export function escapeHtml(text) {
  return text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}

const marked = new Marked({
  gfm: true,
  renderer: {
    html({ text, block }) {
      const pieces = text.split(/(<[^<>]*>)/);
      const html = pieces.map((piece) => INLINE_TAG.test(piece) ? piece : escapeHtml(piece)).join("");
      return block && !pieces.some((piece) => INLINE_TAG.test(piece)) ?
        `<p>${html.trimEnd().replaceAll("\n", "<br>")}</p>\n` : html;
    },
    // The page has an h1, and an agent's name is no chapter of its message.
    heading({ tokens, depth }) {
      const level = Math.min(depth + 1, 6);
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>\n`;
    },
    image({ href, text }) {
      if (DATA_IMAGE.test(href))
        return `<img src="${escapeHtml(href)}" alt="${escapeHtml(text)}">`;
      // Nothing is loaded from elsewhere: that would tell elsewhere who reads what.
      return `<a href="${escapeHtml(href)}">${escapeHtml(text || href)}</a>`;
    },
    checkbox({ checked }) {
      return checked ? "☑ " : "☐ ";
    },
  },
});

export function toHtml(tokens) {
  return marked.parser(tokens);
}

// The blocks of a text and what may still change when more text comes: all before settledLength is done with.
export function blocksOf(text) {
  const tokens = marked.lexer(text);
  let open = tokens.length;
  while (open > 0 && tokens[open - 1].type === "space")
    open--;
  // One line that may go on can still turn out to belong to what is above it: "2" becomes "2. the second".
  const line = open > 0 && !tokens[open - 1].raw.includes("\n") && open === tokens.length;
  open = Math.max(open - 1, 0);
  if (line) {
    while (open > 0 && tokens[open - 1].type === "space")
      open--;
    open = Math.max(open - 1, 0);
  }
  const settled = tokens.slice(0, open), rest = tokens.slice(open);
  const settledLength = settled.reduce((n, token) => n + token.raw.length, 0);
  const whole = rest.reduce((n, token) => n + token.raw.length, settledLength);
  settled.links = rest.links = tokens.links;
  // Where the lexer has rewritten something, nothing can be said about the places.
  if (whole !== text.length || !text.startsWith(settled.map((token) => token.raw).join("")))
    return { settled: [], rest: tokens, settledLength: 0 };
  return { settled, rest, settledLength };
}

// A text whose parts refer to definitions elsewhere in it ("[1]: https://…").
export function hasDefinitions(text) {
  return /^ {0,3}\[[^\]\n]+\]:/m.test(text);
}

export function normalised(text) {
  return text.replace(/\r\n?/g, "\n");
}
