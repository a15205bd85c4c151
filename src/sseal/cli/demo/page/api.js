// The requests of this page that are not streams. Each is written to the transcript.

export class Refused extends Error {
  name = "Refused";

  /** `status` 0 means that no answer came. */
  constructor(status, code, detail, retryAfter = 0) {
    super(detail);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter; // seconds
  }
}

export async function refusal(response) {
  let problem = {};
  try {
    problem = await response.json();
  } catch {
    // not ours: a proxy answered, for example
  }
  const detail = problem.detail || problem.title || `the server answered ${response.status}`;
  return new Refused(response.status, problem.code ?? "", detail, Number(response.headers.get("Retry-After")) || 0);
}

export class Api {
  #transcript;
  #token = null; // {token, subject, expires_at}, in memory only

  constructor(transcript) {
    this.#transcript = transcript;
  }

  config() {
    return this.#call("GET", "/demo/config", { silent: true });
  }

  /** A bearer token of this user; the one at hand unless `fresh`, or unless it is about to end. */
  async token(user, { fresh = false } = {}) {
    const held = this.#token;
    if (!fresh && held?.subject === user.name && held.expires_at * 1000 > Date.now() + 60_000) return held;
    const { name: username, password } = user;
    const answer = await this.#call("POST", "/demo/token", {
      json: { username, password },
      secrets: [password],
      reveals: ["token"],
      note: "An application would have its own way to a token; this one is the demo's.",
    });
    this.#token = answer;
    return answer;
  }

  forget() {
    this.#token = null;
  }

  async login({ name: username, password }) {
    return this.#call("POST", "/auth/login", {
      json: { username, password },
      cookie: true,
      secrets: [password],
      note: "The answer sets an HttpOnly cookie. No script can read it, this one neither.",
    });
  }

  logout(note = "Ends the session and every stream made with it.") {
    return this.#call("DELETE", "/auth/session", { cookie: true, note });
  }

  async ticket(user, topics, options) {
    const { token } = await this.token(user, options);
    return this.#call("POST", "/auth/sse", {
      bearer: token,
      json: { topics },
      reveals: ["ticket"],
      note: "Buys a ticket: good once, for half a minute, for these topics.",
    });
  }

  /** Extends a live stream with a fresh token of the same person. */
  async refresh(user, connection) {
    const { token } = await this.token(user, { fresh: true });
    return this.#call("POST", "/auth/refresh", {
      bearer: token,
      json: { connection },
      note: "Extends the open stream in place. Nothing is reconnected.",
    });
  }

  async notify(user, targetUserId, message) {
    const { token } = await this.token(user);
    return this.#call("POST", "/notifications", { bearer: token, json: { targetUserId, message } });
  }

  cut(connection) {
    return this.#call("POST", "/demo/cut", { json: { connection }, note: "The connection is dropped without a word." });
  }

  async #call(method, path, { json, bearer, cookie = false, secrets = [], reveals = [], note = "", silent = false } = {}) {
    const headers = {};
    if (bearer) headers.Authorization = `Bearer ${bearer}`;
    if (json) headers["Content-Type"] = "application/json";
    const shown = cookie && !path.endsWith("/login") ? { ...headers, Cookie: cookieShown() } : headers;
    const entry = silent
      ? null
      : this.#transcript.add({ method, path, headers: shown, body: json ?? null, note, secrets: [bearer, ...secrets] });
    let response;
    try {
      response = await fetch(path, {
        method,
        headers,
        body: json ? JSON.stringify(json) : undefined,
        credentials: cookie ? "same-origin" : "omit",
        cache: "no-store",
      });
    } catch {
      entry?.answer("no answer", "the server could not be reached");
      throw new Refused(0, "unreachable", "The server could not be reached.");
    }
    const status = `${response.status} ${response.statusText}`.trim();
    if (!response.ok) {
      const refused = await refusal(response);
      entry?.answer(status, `${refused.code} ${refused.message}`.trim());
      throw refused;
    }
    const answer = response.status === 204 ? null : await response.json();
    entry?.answer(status, answer ? JSON.stringify(answer) : "", reveals.map((name) => answer?.[name]));
    return answer;
  }
}

/** What can be shown of a cookie that no script may read. */
export function cookieShown() {
  const name = location.protocol === "https:" ? "__Host-sseal" : "sseal-dev";
  return `${name}=(HttpOnly, added by the browser)`;
}
