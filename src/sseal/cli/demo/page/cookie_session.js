// Whose session cookie this address holds. No script can read the cookie itself, and all windows of one address
// share it, so they keep a note of it: two windows must not take it from each other for ever.

import { Refused } from "./api.js";

const KEY = "sseal-demo-cookie";

export class CookieSession {
  #api;

  constructor(api) {
    this.#api = api;
  }

  /** A user's name, or "" when no window of this address has signed in by cookie. */
  get holder() {
    return localStorage.getItem(KEY) ?? "";
  }

  set holder(name) {
    if (name) localStorage.setItem(KEY, name);
    else localStorage.removeItem(KEY);
  }

  /** Why this window of `name` has lost its session to another window of this address, or "". */
  taken(name) {
    const { holder } = this;
    if (!holder || holder === name) return "";
    return `${holder} signed in with a cookie in another window of this address, and a browser keeps one such cookie per address. This window was closed rather than shown ${holder}'s events.`;
  }

  /** Refuses to take the cookie away from somebody who signed in after `name`. */
  check(name) {
    const why = this.taken(name);
    if (why) throw new Refused(409, "another_user", why);
  }

  /** Logs a user in. Noted first: the session it takes the place of ends before the answer is here. */
  async fill(user) {
    const before = this.holder;
    this.holder = user.name;
    try {
      await this.#api.login(user);
    } catch (error) {
      this.holder = before;
      throw error;
    }
  }

  /** Logs out whoever holds it; nobody is fine too. */
  async empty(note) {
    try {
      await this.#api.logout(note);
    } catch (error) {
      if (error.status !== 401) throw error;
    }
    this.holder = "";
  }
}
