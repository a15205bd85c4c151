// The five ways in: what each is for, and what it asks the server.

import { cookieShown } from "./api.js";

/** A query string that keeps the slashes of topics readable; a slash is allowed there. */
function query(pairs) {
  return pairs.map(([name, value]) => `${name}=${encodeURIComponent(value).replaceAll("%2F", "/")}`).join("&");
}

const topicsOf = (topics) => topics.map((topic) => ["topic", topic]);
const from = (position) => (position ? [["last_event_id", position]] : []);

/** What a native EventSource sends, as far as it matters here. */
const NATIVE = { Accept: "text/event-stream" };

async function withTicket({ api, user, topics, position, fresh }) {
  const answer = await api.ticket(user, topics, { fresh });
  const url = new URL(answer.url, location.href);
  if (position) url.searchParams.set("last_event_id", position);
  return {
    reader: "EventSource",
    url: url.pathname + url.search,
    headers: NATIVE,
    secrets: [answer.ticket],
    ticket: answer.ticket,
    note: "A plain EventSource opens the ticket's URL. The ticket is spent with this.",
  };
}

/**
 * Each: title, a line about it, a warning or not, and prepare({api, jar, user, topics, position, fresh}) ->
 * {reader, url, headers, secrets, note}. `position` is where to go on after, `fresh` asks for new credentials, `jar`
 * is the cookie of this address (see cookie_session.js).
 */
export const AUTH_METHODS = {
  bearer: {
    title: "Bearer",
    sub: "via fetch",
    about: "fetch() can send an Authorization header, EventSource cannot. The page decodes the stream itself and does what the browser would do: wait as long as the server's retry asks, then come back with Last-Event-ID.",
    async prepare({ api, user, topics, position, fresh }) {
      const { token } = await api.token(user, { fresh });
      return {
        reader: "fetch",
        url: `/events?${query(topicsOf(topics))}`,
        headers: { ...NATIVE, Authorization: `Bearer ${token}`, ...(position ? { "Last-Event-ID": position } : {}) },
        secrets: [token],
        note: "Read with fetch() and the decoder of wire.js.",
      };
    },
  },
  cookie: {
    title: "Cookie",
    sub: "session",
    about: "One login sets a cookie no script can read; a plain EventSource does the rest. subject= pins the stream to this user: with somebody else's cookie in the browser the answer is 401, never somebody else's events.",
    async prepare({ jar, user, topics, position }) {
      await jar.fill(user);
      return {
        reader: "EventSource",
        url: `/events?${query([...topicsOf(topics), ["subject", user.name], ...from(position)])}`,
        headers: { ...NATIVE, Cookie: cookieShown() },
        secrets: [],
        note: "A plain EventSource, pinned to its user.",
      };
    },
  },
  ticket: {
    title: "Ticket",
    sub: "one-time URL",
    about: "A signed request buys a ticket, good once and for half a minute, and a plain EventSource opens its URL. What a log keeps of that URL opens nothing any more.",
    prepare: withTicket,
  },
  resume: {
    title: "Resume",
    sub: "after a cut",
    about: "A ticket again, and now cut the connection: the browser comes back to the same URL, whose ticket is spent. What lets it in is the token that travelled in the event id. It returns in Last-Event-ID, names the exact position, and is replaced each time.",
    prepare: withTicket,
  },
  query: {
    title: "Query",
    sub: "token in URL",
    about: "The token stands in the address, for clients that can do nothing else.",
    warning: "A last resort: addresses end up in logs, histories and proxies, and this one works until the token ends. sseal keeps this way off unless it is switched on.",
    async prepare({ api, jar, user, topics, position, fresh }) {
      // The browser adds a cookie by itself, and a cookie decides before a token in the address.
      if (jar.holder || fresh) await jar.empty("A cookie would decide before the token in the address.");
      const { token } = await api.token(user, { fresh });
      return {
        reader: "EventSource",
        url: `/events?token=${encodeURIComponent(token)}&${query([...topicsOf(topics), ["subject", user.name], ...from(position)])}`,
        headers: NATIVE,
        secrets: [token],
        note: "The whole token is in the request line.",
      };
    },
  },
};

/** Nobody: public topics, and asked for in so many words. Without cookies, which would count as a credential. */
export const PUBLIC = {
  about: "Anonymous is asked for, never fallen into: without anonymous=1 a request that shows no credential is answered 401, even for a public topic. Sign in to try the five ways.",
  async prepare({ topics, position }) {
    return {
      reader: "fetch",
      url: `/events?${query([["anonymous", "1"], ...topicsOf(topics)])}`,
      headers: { ...NATIVE, ...(position ? { "Last-Event-ID": position } : {}) },
      secrets: [],
      note: "No credential, and no cookie either.",
    };
  },
};
