/* Asks the node and shows what it says. Text of the node is set as text, never as HTML. */

const ASK_EVERY_MS = 1000;
const GIVE_UP_MS = 4000;
/** One question may come to nothing, when a connection has just been closed. */
const SILENT_AFTER_MS = 2500;
/** Rates are over so much time. */
const RATE_OVER_MS = 5000;
const MOST_EVENTS = 1000;
const SHOWN_EVENTS = 200;

const $ = (id) => document.getElementById(id);

const state = {
  range: RANGES[0],
  limit: "node",
  /** Series by range and limit. */
  series: new Map(),
  live: null,
  /** Answers of the last seconds, for rates. */
  past: [],
  events: [],
  /** When the node last answered, by this machine's clock. */
  heard: null,
  isSilent: false,
  /** Difference of the node's clock and this one's, in seconds. */
  ahead: 0,
  /** Where the crosshair is, in seconds; null for nowhere. */
  cursor: null,
  shown: null,
  timer: null,
  isAsking: false,
  limitsOf: null,
};

/* Small things */

function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") element.className = value;
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

function setText(element, text) {
  const string = String(text);
  if (element.textContent !== string) element.textContent = string;
}

function duration(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

/** A time for a list: without the date when it is of today. */
function when(ms) {
  const date = new Date(ms);
  const isToday = date.toDateString() === new Date().toDateString();
  return isToday ? clock(date, true) : `${DAY.format(date)} ${clock(date, true)}`;
}

/** Short for large numbers. */
const COMPACT = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });

function countText(count) {
  return count < 1e6 ? GROUPED.format(count) : COMPACT.format(count);
}

/* Asking */

function series() {
  const key = `${state.range.id} ${state.limit}`;
  if (!state.series.has(key)) state.series.set(key, new Series(state.range));
  return state.series.get(key);
}

function nodeNow() {
  return Date.now() / 1000 + state.ahead;
}

async function get(path, query) {
  const answer = await fetch(`${path}?${new URLSearchParams(query)}`, {
    cache: "no-store",
    signal: AbortSignal.timeout(GIVE_UP_MS),
  });
  const body = await answer.json();
  if (!answer.ok || body.ok !== true) throw new Error(body.error ?? `HTTP status ${answer.status}`);
  return body;
}

async function ask() {
  const [range, limit, wanted] = [state.range, state.limit, series()];
  const newest = state.events.at(-1)?.id ?? 0;
  const live = await get("/api/live", {
    span: range.span,
    merge: range.merge,
    count: wanted.missing(nodeNow()),
    limit,
    after: newest,
  });
  if (state.live && state.live.status.pid !== live.status.pid) state.past = [];
  state.ahead = live.time_ms / 1000 - Date.now() / 1000;
  state.live = live;
  state.heard = Date.now();
  state.past.push(live);
  while (state.past.length > 2 && live.time_ms - state.past[1].time_ms >= RATE_OVER_MS) state.past.shift();
  state.events = state.events.concat(live.events).slice(-MOST_EVENTS);
  const report = live.limits[0];
  if (report) wanted.put(report, live.time_ms / 1000);
  else if (limit !== "node") chooseLimit("node");
  const configuration = `${live.status.pid} ${live.status.generation}`;
  if (state.limitsOf !== configuration) {
    const { limits } = await get("/api/cps", { count: 0 });
    state.limitsOf = configuration;
    showLimits(limits);
  }
}

async function turn() {
  if (state.isAsking) return;
  clearTimeout(state.timer);
  state.isAsking = true;
  const began = Date.now();
  const { range, limit } = state;
  try {
    await ask();
    state.isSilent = false;
    show();
  } catch (error) {
    state.isSilent = state.heard === null || Date.now() - state.heard > SILENT_AFTER_MS;
    const known = { TimeoutError: `nothing within ${GIVE_UP_MS / 1000} s`, TypeError: "no connection" };
    state.why = known[error.name] ?? error.message;
  }
  showSilence();
  state.isAsking = false;
  // A page that nobody sees asks nothing.
  if (document.visibilityState === "visible") {
    const isNew = state.range !== range || state.limit !== limit;
    state.timer = setTimeout(turn, isNew ? 0 : Math.max(100, ASK_EVERY_MS - (Date.now() - began)));
  }
}

document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") turn();
  else clearTimeout(state.timer);
});

/* Rates */

/** What grows, for a second: `of` takes the number out of an answer. Null when it is not known yet. */
function rate(of) {
  const [before, now] = [state.past[0], state.past.at(-1)];
  if (!before || before === now) return null;
  const [was, is] = [of(before), of(now)];
  const seconds = (now.time_ms - before.time_ms) / 1000;
  if (was === undefined || is === undefined || is < was || seconds <= 0) return null;
  return (is - was) / seconds;
}

const sum = (list, of) => list.reduce((sum, item) => sum + of(item), 0);

/* Showing */

function show() {
  const live = state.live;
  showNode(live.status);
  showTiles(live);
  showBackends(live);
  showLosses(live);
  showQueues(live);
  showEvents();
  showGraphs();
}

function showSilence() {
  document.body.classList.toggle("is-stale", state.isSilent);
  const banner = $("stale");
  banner.hidden = !state.isSilent;
  const name = state.live?.status.node ?? "The node";
  document.title = `${state.isSilent ? "(!) " : ""}${state.live?.status.node ?? "siplb"} - siplb`;
  if (!state.isSilent) return;
  const since = state.heard ? `has not answered since ${when(state.heard)}; what is below is from then` : "does not answer";
  setText(banner, `${name} ${since}. Still trying (${state.why}).`);
}

function showNode(status) {
  setText($("node"), status.node);
  setText($("version"), `siplb ${status.version}`);
  setText($("uptime"), duration(status.uptime_s));
  setText($("mode"), status.mode === "socket" ? "kernel sockets" : "AF_XDP");
  $("mode").title = status.mode_reason ?? "";
  setText($("config-hash"), status.config_hash);
  setText($("generation"), `generation ${status.generation}`);
  setText($("table-hash"), status.table_hash);
  const announce = status.announce;
  const pill = $("announced");
  pill.hidden = !announce;
  if (!announce) return;
  pill.className = `pill ${announce.announced ? "good" : "bad round"}`;
  setText($("announced-word"), announce.announced ? "Announced" : "Not announced");
  const where = announce.device ? ` on ${announce.device}` : "";
  const why = announce.announced ? `for ${duration(announce.since_s)}${where}` : `for ${duration(announce.since_s)}: ${announce.reason}`;
  setText($("announced-why"), why);
}

function showTiles(live) {
  const last = series().points.at(-1);
  const report = live.limits[0];
  const isSeconds = state.range.step === 1;
  const total = (which) => (one) => one.limits[0]?.name === report?.name ? one.limits[0]?.[which] : undefined;
  const now = (place, which) => (isSeconds && last ? last[place] : rate(total(which)));
  setText($("now-accepted"), rateText(now(0, "accepted")));
  setText($("now-breached"), rateText(now(1, "breached")));
  const of = report?.name === "node" ? "" : `${report?.name}: `;
  const limit = report?.cps == null ? "no limit" : `limit ${GROUPED.format(report.cps)}/s`;
  setText($("now-limit"), report ? `${of}${limit}, ${countText(report.accepted)} in all` : "");
  setText($("now-breached-total"), report ? `${countText(report.breached)} since the start` : "");

  const active = live.backends.filter((backend) => backend.state === "active").length;
  setText($("now-backends"), active);
  setText($("now-backends-all"), `of ${live.backends.length} active`);
  const others = ["draining", "unhealthy", "disabled"].map((name) => {
    const count = live.backends.filter((backend) => backend.state === name).length;
    return count > 0 ? `${count} ${name}` : null;
  });
  const why = others.filter(Boolean).join(", ");
  setText($("now-backends-why"), why || "all take calls");
  $("now-backends-why").className = `quiet ${why ? "warn" : ""}`;

  setText($("now-received"), rateText(rate((one) => sum(one.queues, (queue) => queue.received))));
  setText($("now-sent"), `${rateText(rate((one) => sum(one.queues, (queue) => queue.sent)))} /s out`);
  const dropped = (one) => sum(one.losses.filter((loss) => loss.what === "dropped"), (loss) => loss.count);
  setText($("now-dropped"), rateText(rate(dropped)));
  setText($("now-dropped-why"), `${countText(dropped(live))} since the start`);
}

/* Graphs */

const graphs = [new Graph($("plot-accepted"), 0), new Graph($("plot-breached"), 1)];

function showGraphs() {
  const shown = series().groups(graphs[0].columns);
  state.shown = shown;
  const report = state.live?.limits[0];
  const limit = report && report.name === state.limit ? report.cps : null;
  const marks = state.events.map((event) => ({ ...event, time: event.time_ms / 1000 }));
  const visible = marks.filter((mark) => mark.time >= shown.from && mark.time <= shown.to);
  graphs[0].draw(shown, limit, visible);
  graphs[1].draw(shown, null, visible);
  $("key-limit").hidden = limit === null;
  $("key-mean").hidden = $("key-mean-breached").hidden = !shown.isMerged;
  setText(document.querySelector(".k-accepted"), shown.isMerged ? "accepted, most in a second" : "accepted");
  const isBackend = state.limit.startsWith("backend ");
  const breached = isBackend ? "sent to the next best" : "refused";
  setText($("key-breached"), shown.isMerged ? `${breached}, most in a second` : breached);
  if (state.cursor !== null && (state.cursor < shown.from || state.cursor >= shown.to)) state.cursor = null;
  showCursor();
}

function groupAt(time) {
  return state.shown?.groups.find((group) => time >= group.begin && time < group.end);
}

function timeText(group) {
  const date = new Date(group.begin * 1000);
  const isToday = date.toDateString() === new Date().toDateString();
  const day = isToday ? "" : `${DAY.format(date)} `;
  const length = group.end - group.begin;
  return `${day}${clock(date, length < 60)}${length > 1 ? `, ${duration(length)}` : ""}`;
}

function showCursor() {
  const groups = state.shown?.groups ?? [];
  const group = state.cursor === null ? undefined : groupAt(state.cursor);
  for (const graph of graphs) graph.point(group);
  const told = group ?? groups.at(-1);
  const plots = $("plots");
  if (!told) return;
  plots.setAttribute("aria-valuemin", state.shown.from);
  plots.setAttribute("aria-valuemax", state.shown.to);
  plots.setAttribute("aria-valuenow", told.begin);
  const near = group ? eventsNear(group) : [];
  const parts = [["", group ? timeText(told) : `Last: ${timeText(told)}`]];
  if (!told.isKnown) parts.push(["", "not known"]);
  else if (state.shown.isMerged) {
    parts.push(["accepted, most in a second", GROUPED.format(told.peak[0])], ["mean", rateText(told.mean[0])]);
    parts.push(["refused, most in a second", GROUPED.format(told.peak[1])], ["mean", rateText(told.mean[1])]);
  } else {
    parts.push(["accepted", GROUPED.format(told.peak[0])], ["refused", GROUPED.format(told.peak[1])]);
  }
  const texts = parts.map(([name, value]) => make("span", {}, name ? `${name} ` : "", make("b", {}, value)));
  const events = near.map((event) => `${when(event.time_ms)} ${subject(event)}: ${event.text}`);
  if (events.length > 0) texts.push(make("span", { class: "what" }, events.slice(0, 3).join(" | ")));
  $("readout").replaceChildren(...texts);
  const words = parts.map(([name, value]) => `${name} ${value}`.trim()).concat(events);
  // Who listens to it does not want to hear each second.
  if (group || document.activeElement !== plots) plots.setAttribute("aria-valuetext", words.join(", "));
}

/** Events within a few pixels of a group. */
function eventsNear(group) {
  const { left, right } = graphs[0].room;
  const slack = (5 * (state.shown.to - state.shown.from)) / (right - left);
  const isNear = ({ time_ms: ms }) => ms / 1000 >= group.begin - slack && ms / 1000 < group.end + slack;
  return state.events.filter(isNear).reverse();
}

const plots = $("plots");

function moveTo(event) {
  if (!state.shown) return;
  const box = graphs[0].element.getBoundingClientRect();
  const time = graphs[0].time(event.clientX - box.left);
  state.cursor = Math.min(Math.max(time, state.shown.from), state.shown.to - 0.001);
  showCursor();
}

plots.addEventListener("pointermove", moveTo);
plots.addEventListener("pointerdown", moveTo);
plots.addEventListener("pointerleave", (event) => {
  // A finger that is lifted leaves the crosshair where it is.
  if (event.pointerType === "touch") return;
  state.cursor = null;
  showCursor();
});
plots.addEventListener("blur", () => {
  state.cursor = null;
  showCursor();
});
plots.addEventListener("keydown", (event) => {
  const groups = state.shown?.groups ?? [];
  if (groups.length === 0) return;
  const last = groups.length - 1;
  const at = state.cursor === null ? last + 1 : groups.indexOf(groupAt(state.cursor));
  const far = Math.max(2, Math.round(groups.length / 20));
  const moves = {
    ArrowLeft: at - (event.shiftKey ? far : 1),
    ArrowDown: at - (event.shiftKey ? far : 1),
    ArrowRight: at + (event.shiftKey ? far : 1),
    ArrowUp: at + (event.shiftKey ? far : 1),
    PageDown: at - far,
    PageUp: at + far,
    Home: 0,
    End: last,
  };
  if (event.key === "Escape") state.cursor = null;
  else if (event.key in moves) state.cursor = groups[Math.min(last, Math.max(0, moves[event.key]))].begin;
  else return;
  event.preventDefault();
  showCursor();
});

new ResizeObserver(() => {
  if (state.shown) showGraphs();
}).observe(plots);

/* Choices */

const KINDS = { node: "Node", source: "Source networks", rule: "Route rules", backend: "Backends" };

function showLimits(limits) {
  const groups = Object.entries(KINDS).map(([kind, label]) => {
    const names = limits.map((limit) => limit.name).filter((name) => name.split(" ", 1)[0] === kind);
    if (names.length === 0) return null;
    const options = names.map((name) => make("option", { value: name }, kind === "node" ? "whole node" : name.slice(kind.length + 1)));
    return kind === "node" ? options[0] : make("optgroup", { label }, ...options);
  });
  $("limit").replaceChildren(...groups.filter(Boolean));
  const isThere = limits.some((limit) => limit.name === state.limit);
  if (isThere) $("limit").value = state.limit;
  else chooseLimit("node");
}

function chooseLimit(name) {
  state.limit = name;
  $("limit").value = name;
  // The points of others would be old when they are looked at again.
  state.series.clear();
  state.cursor = null;
  turn();
}

$("limit").addEventListener("change", () => chooseLimit($("limit").value));

for (const range of RANGES) {
  const input = make("input", { type: "radio", name: "range", value: range.id });
  input.checked = range === state.range;
  input.addEventListener("change", () => {
    state.range = range;
    state.cursor = null;
    if (series().points.length > 0) showGraphs();
    turn();
  });
  $("range").append(make("label", {}, input, make("span", {}, range.name)));
}

const THEMES = { system: "light", light: "dark", dark: "system" };

function showTheme(theme) {
  const root = document.documentElement;
  if (theme === "system") delete root.dataset.theme;
  else root.dataset.theme = theme;
  setText($("theme"), `Theme: ${theme}`);
}

function storedTheme() {
  try {
    const theme = localStorage.getItem("theme");
    return theme in THEMES ? theme : "system";
  } catch {
    return "system";
  }
}

$("theme").addEventListener("click", () => {
  const theme = THEMES[document.documentElement.dataset.theme ?? "system"];
  showTheme(theme);
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // It is for this page alone then.
  }
});

showTheme(storedTheme());
turn();
