// The requests as they went out. What would let somebody in is shortened until asked for.

import { abbreviate, el, prepend, timeTag } from "./ui.js";

const LIMIT = 100;

/** Splits a text into strings and {secret} parts, wherever one of the secrets occurs in it. */
function parts(text, secrets) {
  let pieces = [String(text)];
  for (const secret of new Set(secrets.filter((value) => value))) {
    pieces = pieces.flatMap((piece) => {
      if (typeof piece !== "string") return [piece];
      return piece.split(secret).flatMap((rest, index) => (index ? [{ secret }, rest] : [rest]));
    });
  }
  return pieces.filter((piece) => piece !== "");
}

export class Transcript {
  #list;
  #full;

  constructor(list, toggle) {
    this.#list = list;
    this.#full = () => toggle.checked;
    toggle.addEventListener("change", () => {
      for (const button of list.querySelectorAll("button.secret")) button.show(toggle.checked);
    });
  }

  /**
   * Adds a request: {method, path, headers: {name: value}, body, by, note, secrets}. `by` says who composed it:
   * the page, or the browser on its own. Returns a handle to say how it ended.
   */
  add({ method, path, headers = {}, body = null, by = "the page", note = "", secrets = [] }) {
    const out = el("pre", { class: "out" });
    out.append(el("b", {}, method), " ", ...this.#show(path, secrets), el("i", {}, " HTTP/1.1"));
    for (const [name, value] of Object.entries(headers)) {
      const mark = name === "Last-Event-ID" ? "name cursor" : "name";
      out.append("\n", el("span", { class: mark }, `${name}:`), " ", ...this.#show(value, secrets));
    }
    if (body !== null) out.append("\n\n", ...this.#show(JSON.stringify(body), secrets));
    const back = el("pre", { class: "back" }, "…");
    const by_ = el("p", { class: "by" }, timeTag(), el("span", {}, `sent by ${by}`));
    const about = el("p", { class: "note" }, note);
    const copy = el("button", { type: "button", class: "link-button copy" }, "copy");
    const item = el("li", { "data-by": by === "the page" ? "page" : "browser" },
      el("div", { class: "meta" }, by_, about, copy), el("div", { class: "talk" }, out, back));
    copy.addEventListener("click", () => copyText(plain(out), copy));
    prepend(this.#list, item, LIMIT);
    return {
      answer: (status, text = "", more = []) => {
        const good = status.startsWith("2");
        back.dataset.ok = good ? "yes" : "no";
        back.replaceChildren(el("b", {}, status), text ? "  " : "", ...this.#show(text, [...secrets, ...more]));
      },
      note: (text) => about.replaceChildren(text),
    };
  }

  #show(text, secrets) {
    return parts(text, secrets).map((part) => (typeof part === "string" ? part : this.#secret(part.secret)));
  }

  #secret(value) {
    const button = el("button", { type: "button", class: "secret" });
    button.value = value;
    button.show = (full) => {
      button.textContent = full ? value : abbreviate(value);
      button.setAttribute("aria-expanded", String(full));
      button.title = full ? "Shorten" : "Show in full";
    };
    button.addEventListener("click", () => button.show(button.getAttribute("aria-expanded") !== "true"));
    button.show(this.#full());
    return button;
  }
}

/** The text of a request with its secrets in full. */
function plain(pre) {
  return [...pre.childNodes].map((node) => node.value ?? node.textContent).join("");
}

async function copyText(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "copied";
  } catch {
    button.textContent = "not allowed"; // plain http off loopback has no clipboard
  }
  setTimeout(() => (button.textContent = "copy"), 1500);
}
