// SPDX-License-Identifier: MIT
// Requests to the gateway. The key is in a cookie that no script can read: a 401 asks for it, then tries again.

export class ApiError extends Error {
  constructor(status, { message, code, param } = {}) {
    super(message || (status === 0 ? "The server cannot be reached." : `The server answered ${status}.`));
    this.status = status;
    this.code = code ?? null;
    this.param = param ?? null;
  }

  // Whether the same request may do better a moment later.
  get passing() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

let askForKey = null;

// f(wrong) → promise of whether there is a new cookie.
export function onKeyNeeded(f) {
  askForKey = f;
}

async function errorOf(response) {
  let error = {};
  try {
    error = (await response.json()).error ?? {};
  } catch { /* not ours, or cut off */ }
  return new ApiError(response.status, error);
}

// The response, good ones only.
export async function send(method, path, { body, signal, accept, keyDialog = true } = {}) {
  const headers = {};
  if (body !== undefined)
    headers["Content-Type"] = "application/json";
  if (accept)
    headers.Accept = accept;
  for (;;) {
    let response;
    try {
      response = await fetch(path, {
        method, headers, signal, credentials: "same-origin", cache: "no-store",
        body: body === undefined ? undefined : JSON.stringify(body),
      });
    } catch (e) {
      if (e.name === "AbortError")
        throw e;
      throw new ApiError(0);
    }
    if (response.ok)
      return response;
    const error = await errorOf(response);
    // api_key_required: there is no key that would help.
    if (response.status !== 401 || error.code === "api_key_required" || !keyDialog || !askForKey || !await askForKey())
      throw error;
  }
}

export async function request(method, path, options) {
  const response = await send(method, path, options);
  if (response.status === 204)
    return null;
  try {
    return await response.json();
  } catch (e) {
    if (e.name === "AbortError")
      throw e;
    throw new ApiError(0, { message: "The answer broke off." });
  }
}

const part = encodeURIComponent;

export const api = {
  agents: () => request("GET", "/agents"),
  hire: (role, name) => request("POST", "/hire", { body: { role, name } }),
  messages: (agent, before) =>
    request("GET", `/agents/${part(agent)}/messages?limit=50${before ? `&before=${part(before)}` : ""}`),
  interrupt: (agent) => request("POST", `/agents/${part(agent)}/interrupt`, { body: {} }),
  approvals: () => request("GET", "/approvals"),
  decide: (id, decision) => request("POST", `/approvals/${part(id)}`, { body: { decision } }),
  response: (id) => request("GET", `/v1/responses/${part(id)}`),
  cancel: (id) => request("POST", `/v1/responses/${part(id)}/cancel`, { body: {} }),
  signIn: (key) => request("POST", "/session", { body: { key }, keyDialog: false }),
  signOut: () => request("DELETE", "/session", { keyDialog: false }),
};
