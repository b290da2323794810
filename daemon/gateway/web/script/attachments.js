// SPDX-License-Identifier: MIT
// Files that go along with a message, and what the server takes of them (responses-api: 10 a request, 8 MiB each, and
// the request as a whole below 16 MiB, where they are a third longer).

import { fileSize } from "./format.js";

export const FILES_MAX = 10;
export const FILE_MAX = 8 * 1024 * 1024;
export const TOGETHER_MAX = 11 * 1024 * 1024;

const IMAGES = new Set(["image/png", "image/jpeg", "image/gif", "image/webp"]);

// The files that can go along with those that are there already, and a sentence for each that cannot.
export function choose(present, added) {
  const taken = [], refused = [];
  let size = present.reduce((n, file) => n + file.size, 0);
  for (const file of added) {
    if (present.length + taken.length >= FILES_MAX)
      refused.push(`${file.name}: no more than ${FILES_MAX} files go with one message.`);
    else if (file.size > FILE_MAX)
      refused.push(`${file.name} has ${fileSize(file.size)}, and no file may have more than ${fileSize(FILE_MAX)}.`);
    else if (file.size === 0)
      refused.push(`${file.name} is empty, or a folder.`);
    else if (size + file.size > TOGETHER_MAX)
      refused.push(`${file.name}: the files of one message may have ${fileSize(TOGETHER_MAX)} together.`);
    else {
      taken.push(file);
      size += file.size;
    }
  }
  return { taken, refused };
}

export function isImage(file) {
  return IMAGES.has(file.type);
}

function asDataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error(`${file.name} cannot be read.`));
    reader.readAsDataURL(file);
  });
}

async function partOf(file) {
  const url = await asDataUrl(file);
  if (isImage(file))
    return { type: "input_image", detail: "auto", image_url: url, filename: file.name };
  return { type: "input_file", filename: file.name, file_data: url };
}

// What POST /v1/responses takes as input.
export async function inputOf(text, files) {
  if (files.length === 0)
    return text;
  const parts = await Promise.all(files.map(partOf));
  if (text)
    parts.unshift({ type: "input_text", text });
  return [{ type: "message", role: "user", content: parts }];
}
