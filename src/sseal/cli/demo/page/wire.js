// An event stream, read from fetch(): EventSource cannot send an Authorization header, fetch() can.
// The grammar is that of the HTML standard, sections 9.2.5 and 9.2.6; marks [spec] say where it dictates.
// spec/vectors/decode.json holds the cases this decoder and the Python one both pass.

const MAX_RETRY = 2147483647; // the most a timer holds, in milliseconds

/** A line or an event is longer than the decoder was told to accept. */
export class WireError extends Error {
  name = "WireError";
}

/**
 * Decodes one stream, however it is cut. Feed it text or bytes, not both.
 *
 * `lastEventId` is the cursor for the next request, `retry` the reconnection time asked for last (or null).
 * The bounds count characters. A stream above one ends the decoder: events that were complete before are still
 * returned, the next call throws, and `error` tells at once.
 */
export class Decoder {
  lastEventId;
  retry = null;
  error = null;

  #utf8 = new TextDecoder("utf-8", { ignoreBOM: true }); // the BOM is removed below, for text and bytes alike
  #maxLine;
  #maxEvent;
  #atStart = true;
  #afterCR = false;
  #line = ""; // the line that is still open
  #idBuffer; // [spec] sticky: the end of a block does not reset it
  #block = emptyBlock();

  constructor({ maxLine = 1024 * 1024, maxEvent = 4 * 1024 * 1024, lastEventId = "" } = {}) {
    this.#maxLine = maxLine;
    this.#maxEvent = maxEvent;
    this.lastEventId = this.#idBuffer = lastEventId;
  }

  /**
   * Returns the events complete with this piece, each {type, data, id, retry, topic, lastEventId}; id, retry
   * and topic are null unless the block itself sent them.
   */
  feed(chunk) {
    if (this.error) throw this.error;
    const text = typeof chunk === "string" ? chunk : this.#utf8.decode(chunk, { stream: true });
    const events = [];
    if (text === "") return events;
    try {
      this.#take(this.#trim(text), events);
    } catch (error) {
      this.error = error;
      if (events.length === 0) throw error;
    }
    return events;
  }

  #trim(text) {
    if (this.#atStart) {
      this.#atStart = false;
      return text.startsWith("\uFEFF") ? text.slice(1) : text; // [spec] one leading BOM, a second is text
    }
    // A CR ended its line at once; the LF of the same line end came in the next piece.
    return this.#afterCR && text.startsWith("\n") ? text.slice(1) : text;
  }

  #take(text, events) {
    const lines = text.split(/\r\n|\n|\r/); // [spec] the three line ends, and no others
    const rest = lines.pop();
    if (lines.length > 0) {
      lines[0] = this.#line + lines[0];
      this.#line = "";
    }
    for (const line of lines) {
      this.#bound(line);
      if (line === "") this.#dispatch(events);
      else this.#field(line);
    }
    this.#line += rest;
    this.#bound(this.#line);
    this.#afterCR = text.endsWith("\r");
  }

  #bound(line) {
    if (line.length > this.#maxLine) {
      throw new WireError(`a line is longer than ${this.#maxLine} characters; give Decoder a larger maxLine`);
    }
  }

  #field(line) {
    const colon = line.indexOf(":");
    if (colon === 0) return; // [spec] a comment
    const name = colon < 0 ? line : line.slice(0, colon); // [spec] without a colon the line is the name
    const value = colon < 0 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1)); // [spec] one space
    const block = this.#block;
    if (name === "data") this.#addData(value);
    else if (name === "event") block.type = value;
    else if (name === "topic") block.topic = value; // ours; EventSource ignores it
    else if (name === "id" && !value.includes("\0")) block.id = this.#idBuffer = value; // [spec] no NUL
    else if (name === "retry" && /^[0-9]+$/.test(value) && Number(value) <= MAX_RETRY) {
      block.retry = this.retry = Number(value);
    }
  }

  #addData(value) {
    const data = this.#block.data;
    const joined = data === null ? value : `${data}\n${value}`;
    if (joined.length > this.#maxEvent) {
      throw new WireError(`an event is longer than ${this.#maxEvent} characters; give Decoder a larger maxEvent`);
    }
    this.#block.data = joined;
  }

  #dispatch(events) {
    const { type, data, id, retry, topic } = this.#block;
    this.#block = emptyBlock();
    this.lastEventId = this.#idBuffer; // [spec] also when nothing is dispatched
    if (data === null) return; // [spec] a block without a data line is no event
    events.push({ type: type || "message", data, id, retry, topic, lastEventId: this.lastEventId });
  }
}

function emptyBlock() {
  return { type: "", data: null, id: null, retry: null, topic: null };
}
