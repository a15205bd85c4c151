// Small pieces of page. Everything that came from elsewhere becomes a text node, never markup.

export const byId = (id) => document.getElementById(id);

/** el("p", {class: "hint", "data-x": 1}, "text", node): an element; null, undefined and false are left out. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Sets the text only if it differs, so that a screen reader is not told twice. */
export function say(node, text) {
  const value = String(text);
  if (node.textContent !== value) node.textContent = value;
}

/** Puts an item on top of a list that never grows beyond `limit`. */
export function prepend(list, item, limit) {
  list.prepend(item);
  while (list.childElementCount > limit) list.lastElementChild.remove();
}

export function clock(date = new Date()) {
  const two = (n) => String(n).padStart(2, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

export function timeTag(date = new Date()) {
  return el("time", { datetime: date.toISOString() }, clock(date));
}

/** 754 s -> "12:34"; above an hour "2 h 05 min". */
export function duration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  const two = (n) => String(n).padStart(2, "0");
  if (s >= 3600) return `${Math.floor(s / 3600)} h ${two(Math.floor((s % 3600) / 60))} min`;
  return `${Math.floor(s / 60)}:${two(s % 60)}`;
}

/** "<token>_<epoch>-<offset>" or "<epoch>-<offset>" -> {token, position}. */
export function splitId(id) {
  const cut = id.indexOf("_");
  return cut < 0 ? { token: "", position: id } : { token: id.slice(0, cut), position: id.slice(cut + 1) };
}

export const abbreviate = (text) =>
  text.length > 16 ? `${text.slice(0, 6)}…${text.slice(-4)}` : `${text.slice(0, 2)}…`;

const KINDS = {
  cut: "cut", error: "error", auth: "auth", replay: "replayed", ok: "ok", bad: "missed", gap: "gap", bye: "bye",
  page: "page", note: "note",
};

/** The timeline. `kind` is one of KINDS. */
export class Timeline {
  #list;
  #limit;

  constructor(list, limit = 200) {
    this.#list = list;
    this.#limit = limit;
  }

  add(kind, text, detail = "") {
    prepend(
      this.#list,
      el("li", { "data-kind": kind }, timeTag(), el("b", {}, KINDS[kind] ?? kind),
        el("p", {}, text, detail ? el("small", {}, detail) : null)),
      this.#limit,
    );
  }
}
