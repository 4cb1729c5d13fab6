// api.js - this gateway, as the page asks it: its models, its map, an answer as it comes.
import { EventReader } from "./sse.js";

// What went wrong, and what to do about it.
export class ApiError extends Error {
  constructor(message, { status = 0, code = null } = {}) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

function sentence(text) {
  const t = text.trim();
  if (!t) return "";
  return t[0].toUpperCase() + t.slice(1) + (/[.!?]$/.test(t) ? "" : ".");
}

// status, OpenAI's error object and Retry-After as words.
export function explain(status, error, retryAfter) {
  const said = sentence(error?.message ?? "");
  const wait = retryAfter > 0 ? ` Try again in ${retryAfter} s.` : " Try again in a moment.";
  if (error?.code === "context_length_exceeded")
    return `${said} The conversation is too long for this swarm: start a new chat, or edit an earlier message.`;
  switch (status) {
  case 401: return `${said} Enter a key in Settings.`;
  case 403: return `${said} Ask whoever runs this gateway.`;
  case 404: return `${said} Choose another model.`;
  case 413: return "The conversation is too long to send: start a new chat, or edit an earlier message.";
  case 429: return `${said}${wait}`;
  case 502: case 503: case 504: return `${said || "The swarm cannot answer now."}${wait}`;
  default: return said || `The gateway answered with status ${status}.`;
  }
}

async function errorOf(response) {
  let error = null;
  try {
    error = (await response.json()).error;
  } catch {
    // a proxy's own page, perhaps
  }
  const retry = parseInt(response.headers.get("Retry-After") ?? "0", 10);
  return new ApiError(explain(response.status, error, retry), { status: response.status, code: error?.code });
}

export class Api {
  constructor(key) {
    this.key = key; // () => string
  }

  #headers(more = {}) {
    const key = this.key();
    return key ? { ...more, Authorization: `Bearer ${key}` } : more;
  }

  async #fetch(path, options = {}) {
    try {
      return await fetch(path, { ...options, headers: this.#headers(options.headers), cache: "no-store" });
    } catch (e) {
      if (e.name === "AbortError") throw e;
      throw new ApiError("The gateway cannot be reached. Is swarm-gateway still running, and are you online?");
    }
  }

  async #json(path) {
    const response = await this.#fetch(path);
    if (!response.ok) throw await errorOf(response);
    return response.json();
  }

  async models() {
    const list = await this.#json("v1/models");
    return list.data.map((m) => m.id);
  }

  map() {
    return this.#json("swarm/map");
  }

  // Yields {kind: "text" | "reasoning" | "finish" | "usage" | "swarm", ...}; throws ApiError, or
  // AbortError after signal.
  async *ask(body, signal) {
    const response = await this.#fetch("v1/chat/completions", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ ...body, stream: true, swarm: true, stream_options: { include_usage: true } }),
      signal,
    });
    if (!response.ok) throw await errorOf(response);
    yield* readAnswer(response.body);
  }
}

async function* readAnswer(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  const events = new EventReader();
  for (;;) {
    let piece;
    try {
      piece = await reader.read();
    } catch (e) {
      if (e.name === "AbortError") throw e;
      throw new ApiError("The connection to the gateway broke in the middle of the answer. Retry asks again.");
    }
    if (piece.done) throw new ApiError("The answer ended early. Retry asks again.");
    for (const e of events.feed(piece.value)) {
      if (e.data === "[DONE]") return;
      yield* kindsOf(e);
    }
  }
}

export function* kindsOf(e) {
  const data = JSON.parse(e.data);
  if (e.event === "swarm") {
    yield { kind: "swarm", ...data };
    return;
  }
  if (data.error) throw new ApiError(explain(503, data.error, 0), { status: 503, code: data.error.code });
  if (data.usage) yield { kind: "usage", usage: data.usage };
  const choice = data.choices?.[0];
  if (!choice) return;
  if (choice.delta?.reasoning_content) yield { kind: "reasoning", text: choice.delta.reasoning_content };
  if (choice.delta?.content) yield { kind: "text", text: choice.delta.content };
  if (choice.finish_reason) yield { kind: "finish", why: choice.finish_reason };
}
