// Two panels that only show: what the browser repeats when it resumes, and the notifications received.

import { abbreviate, byId, clock, el, prepend, say, splitId, timeTag } from "./ui.js";

/** What a native EventSource sends by itself after a ticket stream was cut: the spent ticket, and the token. */
export class ResumePanel {
  reset() {
    for (const part of ["url", "id"]) {
      say(byId(`resume-${part}`), "–");
      say(byId(`resume-${part}-note`), "");
    }
    say(byId("resume-state"), "Cut the connection to see it.");
  }

  sent({ url, ticket }, lastEventId) {
    const { token, position } = splitId(lastEventId);
    const [before, after = ""] = url.split(ticket);
    byId("resume-url").replaceChildren(before, el("s", {}, abbreviate(ticket)), after);
    say(byId("resume-url-note"), "the ticket is spent, it lets nobody in");
    byId("resume-id").replaceChildren(el("span", { class: "tok" }, token), "_", position);
    say(byId("resume-id-note"), "the token of the last event, and its position");
    say(byId("resume-state"), "On its way…");
  }

  accepted(lastEventId) {
    const { token } = splitId(lastEventId);
    say(byId("resume-state"), `Let in at ${clock()}. The next token is ${abbreviate(token)}; using it ends the one before.`);
  }
}

/** The list of notifications, newest first and never longer than `limit`. */
export class Inbox {
  #list;
  #empty;
  #limit;

  constructor(list, empty, limit = 100) {
    this.#list = list;
    this.#empty = empty;
    this.#limit = limit;
  }

  clear() {
    this.#list.replaceChildren();
  }

  /** `value` is {type, message, timestamp, sender} as published, or whatever somebody published instead. */
  add(type, value) {
    const fields = value !== null && typeof value === "object" ? value : { message: value };
    const sender = fields.sender ? String(fields.sender) : "unknown sender";
    const kind = fields.type ? String(fields.type) : type;
    const text = fields.message ?? JSON.stringify(value);
    prepend(
      this.#list,
      el("li", { "data-testid": "notification" },
        el("span", { class: "face", "aria-hidden": "true", "data-name": sender }, sender.slice(0, 1).toUpperCase()),
        el("div", {},
          el("p", { class: "from" }, el("b", {}, sender), timeTag(moment(fields.timestamp)),
            kind !== "notification" ? el("span", { class: "chip" }, kind) : null),
          el("p", { class: "text", "data-testid": "notification-text" }, String(text)))),
      this.#limit,
    );
  }

  /** Shows the list, or `hint` while there is nothing in it. */
  show(hint) {
    this.#empty.hidden = this.#list.childElementCount > 0;
    this.#list.hidden = !this.#empty.hidden;
    say(this.#empty, hint);
  }
}

/** Unix seconds or an ISO date; now if it is neither. */
function moment(timestamp) {
  const date = new Date(typeof timestamp === "number" ? timestamp * 1000 : (timestamp ?? NaN));
  return Number.isNaN(date.getTime()) ? new Date() : date;
}
