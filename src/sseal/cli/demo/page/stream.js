// One stream that stays open: the browser's own reconnect where it has one, ours where it has none or gave up.

import { Decoder } from "./wire.js";
import { Refused, refusal } from "./api.js";
import { splitId } from "./ui.js";

// A native EventSource hands named events only to those who ask for them by name.
const TYPES = ["message", "host", "notification", "auth", "gap", "bye"];
const ATTEMPTS = 8; // to get in again after a refusal; about two minutes
const FIRST_DELAY = 600; // milliseconds, doubled each time
const MAX_DELAY = 30_000;
const STEADY = 10_000; // a stream that lived this long starts counting attempts anew
const SILENCE = 50_000; // three heartbeats: a fetch that hears nothing for so long is dead

/**
 * `prepare({position, fresh})` makes the request (see auth_methods.js); `on` is told what happens: state(name),
 * event({type, data, lastEventId}), log(kind, text, detail), request(plan, lastEventId, by) -> {answer, note},
 * lost(), opened(plan).
 */
export class Stream {
  lastEventId;
  retry;

  #prepare;
  #on;
  #turn = 0; // what is under way belongs to a turn; a later turn makes it stale
  #source = null;
  #abort = null;
  #timer = 0;
  #attempts = 0;
  #openedAt = 0;
  #stopped = false;
  #entry = null; // the request that has no answer yet
  #tries = 0;

  constructor({ prepare, on, retry, lastEventId = "" }) {
    this.#prepare = prepare;
    this.#on = on;
    this.retry = retry;
    this.lastEventId = lastEventId;
  }

  start() {
    this.#on.state("connecting");
    this.#connect(false);
  }

  /** Ends it for good. */
  stop() {
    this.#stopped = true;
    this.#entry?.answer("ended", "by the page");
    this.#entry = null;
    this.#drop();
  }

  #drop() {
    this.#turn += 1;
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#abort?.abort();
    this.#source = this.#abort = null;
  }

  async #connect(fresh) {
    this.#drop();
    const turn = this.#turn;
    // Should the position itself be what the server refuses, a stream without it is better than none.
    const position = this.#attempts > 3 ? "" : splitId(this.lastEventId).position;
    let plan;
    try {
      plan = await this.#prepare({ position, fresh });
    } catch (error) {
      if (turn === this.#turn) this.#refused(error);
      return;
    }
    if (turn !== this.#turn) return;
    this.#entry = this.#on.request(plan, plan.headers["Last-Event-ID"] ?? "", "the page");
    if (plan.reader === "fetch") await this.#fetch(plan, turn);
    else this.#native(plan);
  }

  #opened(plan, status) {
    this.#entry?.answer(status, "text/event-stream");
    this.#entry = null;
    this.#openedAt = performance.now();
    this.#on.opened(plan);
  }

  #event(type, data, lastEventId) {
    this.lastEventId = lastEventId;
    if (this.#openedAt && performance.now() - this.#openedAt > STEADY) this.#attempts = 0;
    this.#on.event({ type, data, lastEventId });
  }

  // --- native

  #native(plan) {
    const source = new EventSource(plan.url);
    this.#source = source;
    source.onopen = () => this.#opened(plan, "200 OK");
    for (const type of TYPES) {
      source.addEventListener(type, (event) => {
        if (this.#source === source) this.#event(type, event.data, event.lastEventId);
      });
    }
    source.onerror = () => {
      if (this.#source !== source) return;
      if (source.readyState === EventSource.CLOSED) this.#closed();
      else this.#reconnecting(plan);
    };
  }

  /** The browser comes back by itself; all the page can do is to say with what. */
  #reconnecting(plan) {
    this.#on.state("reconnecting");
    if (this.#entry) {
      this.#tries += 1;
      this.#entry.answer("no answer", `tried ${this.#tries} ${this.#tries === 1 ? "time" : "times"}, goes on`);
      return;
    }
    this.#tries = 0;
    this.#on.lost();
    this.#on.log("error", "EventSource error, readyState 0: the browser reconnects by itself", this.#wait(this.retry));
    const headers = { ...plan.headers, ...(this.lastEventId ? { "Last-Event-ID": this.lastEventId } : {}) };
    this.#entry = this.#on.request(
      { ...plan, headers, note: "Sent without the page. EventSource repeats its URL and adds the last event id." },
      this.lastEventId,
      "the browser",
    );
  }

  /** W15: it gave up for good, and does not say why. */
  #closed() {
    this.#entry?.answer("refused", "EventSource does not tell the page the status");
    this.#entry = null;
    this.#on.log("error", "EventSource error, readyState 2: the browser has given up", "any status but 200 does that");
    this.#refused(null);
  }

  // --- fetch

  async #fetch(plan, turn) {
    const abort = new AbortController();
    this.#abort = abort;
    let watch = 0;
    const heard = () => {
      clearTimeout(watch);
      watch = setTimeout(() => abort.abort(), SILENCE);
    };
    const mine = () => turn === this.#turn;
    let opened = false;
    try {
      heard();
      const response = await fetch(plan.url, {
        headers: plan.headers, credentials: "omit", cache: "no-store", signal: abort.signal,
      });
      if (!mine()) return;
      const kind = response.headers.get("Content-Type") ?? "";
      if (response.status !== 200 || !kind.startsWith("text/event-stream")) {
        const refused = await refusal(response);
        this.#entry?.answer(`${response.status} ${response.statusText}`.trim(), `${refused.code} ${refused.message}`);
        this.#entry = null;
        if (mine()) this.#refused(refused);
        return;
      }
      opened = true;
      this.#opened(plan, "200 OK");
      const decoder = new Decoder({ lastEventId: this.lastEventId });
      const reader = response.body.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (!mine()) return;
        if (done) break;
        heard();
        for (const event of decoder.feed(value)) {
          if (!mine()) return;
          this.#event(event.type, event.data, event.lastEventId);
        }
        if (decoder.retry !== null) this.retry = decoder.retry;
      }
    } catch {
      // the network, or our own watch: both are an end of the stream
    } finally {
      clearTimeout(watch);
    }
    if (!mine()) return;
    this.#entry?.answer("no answer", "the server could not be reached");
    this.#entry = null;
    if (!opened) return this.#refused(new Refused(0, "unreachable", "The server could not be reached."));
    this.#on.state("reconnecting");
    this.#on.lost();
    const delay = this.retry * (1 + 0.2 * Math.random());
    this.#on.log("error", "the stream broke off: the page reconnects", this.#wait(delay));
    this.#timer = setTimeout(() => this.#connect(false), delay);
  }

  // --- both

  /** Not let in, or not reached: try again with new credentials, later each time, and not for ever. */
  #refused(error) {
    if (this.#stopped) return;
    this.#drop();
    this.#on.lost();
    const status = error?.status ?? 0;
    const hopeless = error !== null && status >= 400 && ![401, 408, 429].includes(status) && status < 500;
    if (hopeless || this.#attempts >= ATTEMPTS) {
      this.#on.log("bye", hopeless ? "refused for good" : `gave up after ${ATTEMPTS} attempts`, error?.message ?? "");
      this.#on.state("closed");
      return;
    }
    const cap = Math.min(MAX_DELAY, FIRST_DELAY * 2 ** this.#attempts);
    const delay = Math.max(cap * (0.5 + Math.random() / 2), (error?.retryAfter ?? 0) * 1000);
    this.#attempts += 1;
    this.#on.state("reconnecting");
    this.#on.log("page", `asks for a new way in, in ${(delay / 1000).toFixed(1)} s`,
      `attempt ${this.#attempts} of ${ATTEMPTS}${error ? `: ${error.message}` : ""}`);
    this.#timer = setTimeout(() => this.#connect(status !== 0 || error === null), delay);
  }

  #wait(milliseconds) {
    const id = this.lastEventId ? " with the last event id" : "";
    return `in about ${(milliseconds / 1000).toFixed(1)} s${id}`;
  }
}
