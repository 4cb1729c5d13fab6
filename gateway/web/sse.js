// sse.js - text/event-stream, from pieces that may be cut anywhere.  Pure.

// feed(text) gives the events that have become whole: [{event, data}]; comments are skipped.
export class EventReader {
  #rest = "";
  #event = "message";
  #data = [];

  feed(text) {
    const whole = [];
    this.#rest += text;
    const lines = this.#rest.split(/\r\n|\n/);
    this.#rest = lines.pop(); // no end of line yet
    for (const line of lines) this.#line(line, whole);
    return whole;
  }

  #line(line, whole) {
    if (line === "") {
      if (this.#data.length) whole.push({ event: this.#event, data: this.#data.join("\n") });
      this.#event = "message";
      this.#data = [];
      return;
    }
    if (line.startsWith(":")) return;
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") this.#data.push(value);
    if (field === "event") this.#event = value;
  }
}
