// The page: who is watching, by which way, and what comes of it.

import { Api } from "./api.js";
import { Chart, percent, rate } from "./charts.js";
import { CookieSession } from "./cookie_session.js";
import { SequenceCheck } from "./sequence_check.js";
import { Inbox, ResumePanel } from "./panels.js";
import { Stream } from "./stream.js";
import { Transcript } from "./transcript.js";
import { byId, clock, duration, el, say, splitId, Timeline } from "./ui.js";
import { PUBLIC, AUTH_METHODS } from "./auth_methods.js";

const XSS = "<img src=x onerror=alert(1)>";


const timeline = new Timeline(byId("event-log"));
const transcript = new Transcript(byId("request-log"), byId("show-secrets"));
const api = new Api(transcript);
const jar = new CookieSession(api);
const inbox = new Inbox(byId("notifications"), byId("inbox-empty"));
const resume = new ResumePanel();

const charts = {
  cpu: new Chart(byId("charts"), { name: "CPU", series: [""], format: percent, fixed: 100 }),
  memory: new Chart(byId("charts"), { name: "Memory", series: [""], format: percent, fixed: 100 }),
  disk: new Chart(byId("charts"), { name: "Disk", series: ["read", "write"], format: rate }),
  network: new Chart(byId("charts"), { name: "Network", series: ["in", "out"], format: rate }),
};

let config = { users: [], feed: "public/host", retry_ms: 2000, twin: "" };
let user = null; // {name, password}; null is nobody
let way = AUTH_METHODS[sessionStorage.getItem("way")] ? sessionStorage.getItem("way") : "ticket";
let stream = null;
let ledger = new SequenceCheck();
let reconnects = 0;
let lag = Infinity; // our clock minus the sender's, as small as ever seen
let link = nothing();
let seam = null; // from coming back until the first event of now: {authAt, events, numbers, missed}
let awaiting = false; // the stream was lost and is not back

function nothing() {
  return { connection: "", subject: "", topics: [], expiresAt: null, how: "", live: false };
}

const userTopic = (name) => `user/${encodeURIComponent(name)}`;
const topics = () => (user ? [config.feed, userTopic(user.name)] : [config.feed]);

// ---------------------------------------------------------------- signing in and out

function signIn(next) {
  const changed = next?.name !== user?.name;
  leave();
  user = next;
  sessionStorage.setItem("user", next?.name ?? "");
  if (changed) {
    api.forget();
    inbox.clear();
  }
  ledger = new SequenceCheck();
  reconnects = 0;
  timeline.add("page", next ? `${next.name} signs in` : "watching the public feed, signed in as nobody");
  connect("");
  showPeople();
  showCounts();
}

async function signOut() {
  const hadCookie = user !== null && jar.holder === user.name;
  const name = user?.name;
  leave();
  user = null;
  api.forget();
  sessionStorage.removeItem("user");
  inbox.clear();
  timeline.add("page", `${name} signed out`);
  setState("closed");
  showPeople();
  showNotes();
  if (!hadCookie) return;
  try {
    await jar.empty();
  } catch (error) {
    complain(error);
  }
}

/** Closes the stream and forgets what it said. */
function leave() {
  stream?.stop();
  stream = null;
  link = nothing();
  seam = null;
  awaiting = false;
  byId("again").hidden = true;
  complain(null);
  showLink();
}

// ---------------------------------------------------------------- the stream

/** Opens a stream for this user by this way, going on after `lastEventId`. */
function connect(lastEventId) {
  leave();
  const me = user;
  const kind = me ? way : "public";
  const by = me ? AUTH_METHODS[way] : PUBLIC;
  resume.reset();
  const mine = new Stream({
    lastEventId: splitId(lastEventId).position,
    retry: config.retry_ms,
    prepare: ({ position, fresh }) => {
      if (kind === "cookie" && awaiting) jar.check(me.name);
      return by.prepare({ api, jar, user: me, topics: topics(), position, fresh });
    },
    on: {
      state: setState,
      event: (event) => receive(event, kind),
      log: (type, text, detail) => timeline.add(type, text, detail),
      request: (plan, id, by) => {
        if (kind === "resume" && by === "the browser") resume.sent(plan, id);
        return logRequest(plan, splitId(id).token, by);
      },
      lost: () => {
        awaiting = link.connection !== "" || awaiting;
        link.live = false;
        showLink();
      },
      opened: (plan) => {
        complain(null);
        link.how = `${me ? way : "anonymous"}, read by ${plan.reader === "fetch" ? "fetch()" : "EventSource"}`;
        showLink();
      },
    },
  });
  stream = mine;
  if (lastEventId) seam = { authAt: Infinity, events: 0, numbers: [], missed: ledger.missed };
  showWay();
  mine.start();
}

function logRequest(plan, token, by) {
  return transcript.add({
    method: "GET", path: plan.url, headers: plan.headers, by, note: plan.note, secrets: [...plan.secrets, token],
  });
}

function receive({ type, data, lastEventId }, kind) {
  showLastId(lastEventId);
  let value = data;
  try {
    value = JSON.parse(data);
  } catch {
    // plain text is an event too
  }
  if (type === "auth") return authChanged(value, lastEventId, kind);
  if (type === "gap") return timeline.add("gap", `events are gone from the log: ${value.reason ?? "no reason given"}`, `${value.from ?? "?"} to ${value.to ?? "?"}`);
  if (type === "bye") return farewell(value);
  if (type === "host") return hostEvent(value, lastEventId);
  return notification(type, value, lastEventId);
}

function authChanged(value, lastEventId, kind) {
  if (value.session === "valid") return arrived(value, lastEventId, kind);
  link.expiresAt = value.expires_at ?? link.expiresAt;
  const words = {
    expiring: "the identity ends soon: the page refreshes it",
    refreshed: "the identity was extended, on the open stream",
    expired: "the identity has ended",
    revoked: "the identity was revoked",
  };
  timeline.add("auth", words[value.session] ?? `session: ${value.session}`, ends(link.expiresAt));
  if (value.session === "expiring") refresh();
  showLink();
}

/** The opening `auth` of a stream, the first one or that of a reconnect. */
function arrived(value, lastEventId, kind) {
  const back = awaiting;
  Object.assign(link, {
    connection: value.connection ?? "", subject: value.subject ?? "anonymous", topics: value.topics ?? [],
    expiresAt: value.expires_at ?? null, live: true,
  });
  awaiting = false;
  if (back) {
    reconnects += 1;
    seam = { authAt: Date.now(), events: 0, numbers: [], missed: ledger.missed };
  } else if (seam) {
    seam.authAt = Date.now();
  }
  timeline.add("auth", `${back ? "back as" : "let in as"} ${link.subject}`, `connection ${link.connection}`);
  if (kind === "resume" && back) resume.accepted(lastEventId);
  const withheld = topics().filter((topic) => link.topics.length && !link.topics.includes(topic));
  if (withheld.length) timeline.add("note", `not granted: ${withheld.join(", ")}`);
  setState("live");
  showLink();
  showCounts();
}

function farewell({ reason, reconnect }) {
  timeline.add("bye", `the server says bye: ${reason ?? "no reason given"}`, reconnect === false ? "and not to come back" : "and to come back later");
  if (reconnect !== false) return;
  stream?.stop();
  link.live = false;
  setState("closed");
  showLink();
  const why = user && way === "cookie" ? jar.taken(user.name) : "";
  if (why) complain(new Error(why));
}

/** Extends the identity of the open stream. A second request while one is under way changes nothing. */
let refreshing = false;
async function refresh() {
  if (!user || !link.connection || refreshing) return;
  refreshing = true;
  byId("refresh").disabled = true;
  const { connection } = link;
  try {
    const answer = await api.refresh(user, connection);
    if (link.connection === connection) link.expiresAt = answer.expires_at;
    timeline.add("page", "refreshed the identity", ends(answer.expires_at));
  } catch (error) {
    if (error.status === 403 && way === "cookie" && link.connection === connection) {
      // A session of the hub's own accounts is another issuer's than the token: log in anew, and go on from here.
      timeline.add("page", "a token cannot extend this session: signs in anew, and goes on where the stream is");
      connect(stream.lastEventId);
      return;
    }
    timeline.add("error", error.status ? "the refresh was refused" : "the refresh did not get through", error.message);
    const transient = error.status === 0 || error.status === 429 || error.status >= 500;
    const again = Math.max(5, error.retryAfter ?? 0); // seconds; later than the end, the stream re-enters anyway
    if (transient && link.connection === connection && link.expiresAt - Date.now() / 1000 > again + 1) {
      setTimeout(() => link.connection === connection && refresh(), again * 1000);
    }
  } finally {
    refreshing = false;
    byId("refresh").disabled = false;
    showLink();
  }
}

async function cut() {
  const { connection } = link;
  timeline.add("cut", "asked the server to drop the connection", connection);
  try {
    await api.cut(connection);
  } catch (error) {
    complain(error);
  }
}

// ---------------------------------------------------------------- events

function hostEvent(value, lastEventId) {
  const now = Date.now() / 1000;
  lag = Math.min(lag, now - value.at);
  const outcome = ledger.number(value.seq, splitId(lastEventId).position.split("-")[0]);
  const replayed = seam !== null && value.at + lag < seam.authAt / 1000 - 0.02;
  if (outcome === "restarted") {
    timeline.add("note", "the sender was restarted and counts anew", "what it sent last, before that, cannot be counted");
    seam = null;
  }
  if (outcome === "doubled") timeline.add("bad", `number ${value.seq} came twice`);
  if (seam && replayed) {
    seam.events += 1;
    seam.numbers.push(value.seq);
  } else if (seam) {
    closeSeam();
  }
  if (outcome !== "doubled") drawHost(value, replayed);
  showCounts();
}

function drawHost({ at, cpu, memory, disk, disk_used: used, network }, replayed) {
  charts.cpu.push(at, [cpu], { replayed });
  charts.memory.push(at, [memory], { replayed });
  charts.disk.push(at, [disk.read, disk.write], { replayed, extra: used === undefined ? "" : `${percent(used).join(" ")} full` });
  charts.network.push(at, [network.received, network.sent], { replayed });
  byId("replay-legend").hidden = !charts.cpu.replayed;
}

/** The first event of now has come: whatever was to be replayed has been. */
function closeSeam() {
  const { events, numbers, missed } = seam;
  seam = null;
  const lost = ledger.missed - missed;
  const range = numbers.length ? `numbers ${Math.min(...numbers)} to ${Math.max(...numbers)}` : "";
  if (events) timeline.add("replay", `replayed ${events} ${events === 1 ? "event" : "events"} published while away`, range);
  if (lost > 0) timeline.add("bad", `${lost} ${lost === 1 ? "event" : "events"} missed`);
  else timeline.add("ok", events ? "nothing missed" : "nothing missed: nothing was published while away");
}

function notification(type, value, lastEventId) {
  const fresh = ledger.position(splitId(lastEventId).position);
  if (seam && seam.authAt !== Infinity) seam.events += 1;
  if (!fresh) timeline.add("bad", "a notification came twice");
  inbox.add(type, value);
  showNotes();
  showCounts();
}

async function send(message) {
  const target = byId("notify-target").value;
  const status = byId("notify-status");
  if (!user) return false;
  byId("notify-send").disabled = true;
  try {
    await api.notify(user, target, message);
    say(status, `Sent to ${target} at ${clock()}.`);
    return true;
  } catch (error) {
    say(status, `Not sent: ${error.message}`);
    return false;
  } finally {
    byId("notify-send").disabled = false;
  }
}

// ---------------------------------------------------------------- showing it

function setState(state) {
  const pill = byId("state");
  pill.dataset.state = state;
  say(pill, state);
  document.body.dataset.state = state;
  byId("again").hidden = !(state === "closed" && stream);
  byId("cut").hidden = byId("cut-hint").hidden = !byId("again").hidden;
  byId("cut").disabled = !(state === "live" && link.connection);
}

function complain(error) {
  const box = byId("problem");
  box.hidden = !error;
  say(box, error ? error.message : "");
}

const ends = (at) => (at ? `until ${clock(new Date(at * 1000))}` : "");

function showLink() {
  say(byId("subject"), link.subject || "–");
  say(byId("how"), link.how || "–");
  say(byId("connection"), link.connection || "–");
  byId("topics").replaceChildren(...(link.topics.length
    ? link.topics.map((topic) => el("span", { class: "chip" }, topic)) : ["–"]));
  byId("cut").disabled = !(link.live && link.connection);
  byId("refresh").hidden = !(user && link.live && link.expiresAt);
  if (!stream) showLastId("");
  showExpiry();
}

function showExpiry() {
  const left = link.expiresAt ? link.expiresAt - Date.now() / 1000 : null;
  const text = link.expiresAt === null ? (link.connection ? "never" : "–")
    : left > 0 ? `in ${duration(left)}` : "ended";
  const node = byId("expires");
  say(node, text);
  node.title = ends(link.expiresAt);
  node.dataset.soon = String(left !== null && left < 35);
}

function showLastId(id) {
  const { token, position } = splitId(id);
  byId("last-id").replaceChildren(...(token ? [el("span", { class: "tok" }, token), "_", position] : [position || "–"]));
  byId("last-id-key").hidden = !token;
}

function showCounts() {
  for (const name of ["received", "missed", "doubled"]) {
    say(byId(name), ledger[name]);
    byId(name).dataset.bad = String(name !== "received" && ledger[name] > 0);
  }
  say(byId("reconnects"), reconnects);
}

function showPeople() {
  for (const button of byId("users").children) {
    const name = button.dataset.user ?? "";
    button.setAttribute("aria-pressed", String(name ? user?.name === name : user === null && stream !== null));
  }
  say(byId("who"), user ? user.name : "");
  byId("signout").hidden = user === null;
  const other = config.users.find(({ name }) => name !== user?.name);
  const target = byId("notify-target");
  if (other) target.value = other.name;
  for (const control of byId("notify").elements) control.disabled = user === null;
  showSecond(other);
  showNotes();
  showWay();
}

function showSecond(other) {
  if (!other) return;
  const hash = `#user=${encodeURIComponent(other.name)}`;
  const open = (href, text) => el("a", { href, target: "_blank", rel: "noopener" }, text);
  let twin = null;
  try {
    const url = new URL(config.twin);
    if (/^https?:$/.test(url.protocol) && url.origin !== location.origin) twin = new URL(hash, url).href;
  } catch {
    // no twin
  }
  const here = `./${hash}`;
  byId("second").replaceChildren(...(twin
    ? [open(twin, `Open a second window as ${other.name}`), ", with cookies of its own, or ", open(here, "at this address"), "."]
    : [open(here, `Open a second window as ${other.name}`), "."]));
}

function showNotes() {
  inbox.show(user
    ? `Nothing yet. What others send to ${user.name} appears here, and in no other window.`
    : "Sign in to receive notifications of your own, and to send some.");
}

function showWay() {
  const by = user ? AUTH_METHODS[way] : PUBLIC;
  byId("about").replaceChildren(el("p", {}, by.about),
    ...(by.warning ? [el("p", { class: "banner warn", role: "note" }, by.warning)] : []));
  document.body.dataset.user = user ? "yes" : "no";
  for (const radio of document.querySelectorAll("input[name=way]")) radio.checked = radio.value === way;
  byId("resume").hidden = !(user && way === "resume");
}

// ---------------------------------------------------------------- start

function buildUsers() {
  const group = byId("users");
  for (const person of [...config.users].reverse()) {
    const button = el("button", { type: "button", class: "person", "data-user": person.name, "data-testid": `signin-${person.name}`, "aria-pressed": "false" },
      el("span", { class: "face", "aria-hidden": "true", "data-name": person.name }, person.name.slice(0, 1).toUpperCase()),
      el("span", {}, el("b", {}, person.name), el("small", {}, person.password)));
    button.addEventListener("click", () => signIn(person));
    group.prepend(button);
  }
  byId("notify-target").replaceChildren(...config.users.map(({ name }) => el("option", { value: name }, name)));
}

function buildWays() {
  for (const [name, { title, sub }] of Object.entries(AUTH_METHODS)) {
    const radio = el("input", { type: "radio", name: "way", value: name, "data-testid": `way-${name}` });
    radio.addEventListener("change", () => choose(name));
    byId("ways").append(el("label", { class: "tab" }, radio, el("span", {}, el("b", {}, title), el("small", {}, sub))));
  }
}

/** Another way for the same user goes on where the one before stopped. */
function choose(name) {
  way = name;
  sessionStorage.setItem("way", name);
  showWay();
  if (!user || !stream) return;
  timeline.add("page", `goes on by another way: ${AUTH_METHODS[name].title.toLowerCase()}`);
  connect(stream.lastEventId);
}

function fromHash() {
  const name = new URLSearchParams(location.hash.slice(1)).get("user");
  if (!name) return null;
  history.replaceState(null, "", location.pathname + location.search);
  return config.users.find((person) => person.name === name) ?? null;
}

function listen() {
  byId("signin-none").addEventListener("click", () => signIn(null));
  byId("signout").addEventListener("click", signOut);
  byId("cut").addEventListener("click", cut);
  byId("refresh").addEventListener("click", refresh);
  byId("again").addEventListener("click", () => {
    connect(stream?.lastEventId ?? "");
  });
  byId("notify").addEventListener("submit", async (event) => {
    event.preventDefault();
    const field = byId("notify-message");
    if (field.value.trim() && (await send(field.value))) field.value = "";
  });
  byId("notify-xss").addEventListener("click", () => send(XSS));
  addEventListener("hashchange", () => {
    const person = fromHash();
    if (person) signIn(person);
  });
  addEventListener("pagehide", () => stream?.stop());
  addEventListener("pageshow", (event) => {
    if (event.persisted && stream) connect(stream.lastEventId);
  });
  setInterval(showExpiry, 1000);
}

async function start() {
  buildWays();
  listen();
  for (let delay = 500; ; delay = Math.min(2 * delay, 10_000)) {
    try {
      config = { ...config, ...(await api.config()) };
      break;
    } catch (error) {
      complain(error);
      await new Promise((resolve) => setTimeout(resolve, delay));
    }
  }
  buildUsers();
  const remembered = config.users.find(({ name }) => name === sessionStorage.getItem("user"));
  signIn(fromHash() ?? remembered ?? null);
}

start();
