// store.js - conversations and settings, in this browser's own storage and nowhere else.
//
// chat: {id, title, updated, messages: [{role, content, reasoning, model, rate, ...}]}.  Each is one
// entry, so that two tabs do not overwrite each other's.

const CHAT = "swarm.chat.";
const SETTINGS = "swarm.settings";
const KEY = "swarm.key";

export class Store {
  // local and session are Storage, or what looks like it
  constructor(local, session) {
    this.local = local;
    this.session = session;
  }

  // Newest first; what cannot be read is left alone.
  list() {
    const out = [];
    for (let i = 0; i < this.local.length; i++) {
      const key = this.local.key(i);
      if (!key?.startsWith(CHAT)) continue;
      const chat = this.load(key.slice(CHAT.length));
      if (chat) out.push({ id: chat.id, title: chat.title, updated: chat.updated });
    }
    return out.sort((a, b) => b.updated - a.updated);
  }

  load(id) {
    try {
      const chat = JSON.parse(this.local.getItem(CHAT + id));
      return chat && Array.isArray(chat.messages) && chat.id === id ? chat : null;
    } catch {
      return null;
    }
  }

  // false: there is no room, or the browser keeps nothing for this page.
  save(chat) {
    try {
      this.local.setItem(CHAT + chat.id, JSON.stringify(chat));
      return true;
    } catch {
      return false;
    }
  }

  remove(id) {
    this.local.removeItem(CHAT + id);
  }

  static isChatKey(key) {
    return key === null || key.startsWith(CHAT);
  }

  settings() {
    try {
      const read = JSON.parse(this.local.getItem(SETTINGS) ?? "{}");
      return read && typeof read === "object" ? read : {};
    } catch {
      return {};
    }
  }

  saveSettings(settings) {
    try {
      this.local.setItem(SETTINGS, JSON.stringify(settings));
    } catch {
      // then they hold until the page is closed
    }
  }

  key() {
    return this.session.getItem(KEY) ?? this.local.getItem(KEY) ?? "";
  }

  keepsKey() {
    return this.local.getItem(KEY) !== null;
  }

  setKey(key, keep) {
    this.session.removeItem(KEY);
    this.local.removeItem(KEY);
    if (key) (keep ? this.local : this.session).setItem(KEY, key);
  }
}

export function newChat(now) {
  const random = crypto.getRandomValues(new Uint8Array(9));
  const id = Array.from(random, (b) => b.toString(16).padStart(2, "0")).join("");
  return { id, title: "New chat", updated: now, messages: [] };
}

// The start of its first question.
export function titleOf(chat) {
  const first = chat.messages.find((m) => m.role === "user")?.content.trim().replace(/\s+/g, " ");
  if (!first) return "New chat";
  return first.length > 60 ? `${first.slice(0, 57).trimEnd()}...` : first;
}

export function toMarkdown(chat) {
  const who = { user: "You", assistant: "Answer" };
  const parts = chat.messages.map((m) => `## ${who[m.role] ?? m.role}\n\n${m.content.trim()}\n`);
  return `# ${chat.title}\n\n${parts.join("\n")}`;
}
