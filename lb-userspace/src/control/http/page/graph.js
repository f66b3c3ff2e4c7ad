"use strict";

/* The two graphs. Nothing here asks the node or knows the rest of the page. */

const SVG = "http://www.w3.org/2000/svg";
const GROUPED = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });
const ONE_DIGIT = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 1 });

/** What can be looked at: how the node is asked for it, and how many points there are. */
const RANGES = [
  { id: "5m", name: "5 min", words: "last 5 minutes", span: "seconds", merge: 1, step: 1, count: 300 },
  { id: "1h", name: "1 hour", words: "last hour", span: "seconds", merge: 1, step: 1, count: 3600 },
  { id: "1d", name: "1 day", words: "last day", span: "seconds", merge: 60, step: 60, count: 1440 },
  { id: "1M", name: "1 month", words: "last 31 days", span: "minutes", merge: 30, step: 1800, count: 1488 },
];

/** A rate for people: whole numbers, below ten with a digit behind the point. */
function rateText(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "-";
  return value > 0 && value < 9.95 ? ONE_DIGIT.format(value) : GROUPED.format(value);
}

function pad(number) {
  return String(number).padStart(2, "0");
}

function clock(date, seconds) {
  return `${pad(date.getHours())}:${pad(date.getMinutes())}${seconds ? `:${pad(date.getSeconds())}` : ""}`;
}

const DAY = new Intl.DateTimeFormat("en-GB", { weekday: "short", day: "numeric", month: "short" });

/** The points of a limit: neighbours in time, with holes where nothing is known. */
class Series {
  constructor(range) {
    this.range = range;
    this.points = [];
    /** Number of the first point: its time by the length of a step. */
    this.start = 0;
    /** The node's time in seconds when it last told something. */
    this.now = 0;
  }

  get end() {
    return this.start + this.points.length;
  }

  /** Takes what the node tells of a limit. */
  put(report, now) {
    const { step, count } = this.range;
    this.now = now;
    if (report.points.length === 0) return;
    const first = Math.round(report.first_s / step);
    const end = first + report.points.length;
    const isElsewhere = end < this.end - 5 || first > this.end + count;
    if (this.points.length === 0 || isElsewhere) {
      this.points = [];
      this.start = first;
    }
    while (this.end < first) this.points.push(null);
    report.points.forEach((sum, i) => {
      const at = first + i - this.start;
      const peak = report.peaks[i] ?? sum;
      if (at >= 0) this.points[at] = [sum[0], sum[1], peak[0], peak[1]];
    });
    const surplus = this.points.length - count;
    if (surplus > 0) {
      this.points.splice(0, surplus);
      this.start += surplus;
    }
  }

  /** How many points have to be asked for, at the time `now` of the node. */
  missing(now) {
    const { step, count } = this.range;
    if (this.points.length === 0) return count;
    // The last one was perhaps not over.
    return Math.min(count, Math.max(2, Math.ceil(now / step) - this.end + 2));
  }

  /** Seconds that a point tells of: the newest may not be over. */
  covered(at) {
    const { step, span } = this.range;
    if (at < this.end - 1) return step;
    const unit = span === "minutes" ? 60 : 1;
    const past = Math.floor((this.now - at * step) / unit) * unit;
    return Math.min(step, Math.max(unit, past));
  }

  /**
   * Groups of points for a width of so many columns. Each has the largest second, so no peak gets lost, and the mean. They begin at
   * multiples of their length: what is in a group does not change while time goes on.
   */
  groups(columns) {
    const { step, count } = this.range;
    const size = Math.max(1, Math.ceil(count / Math.max(1, columns)));
    const from = this.end - count;
    const groups = [];
    for (let group = Math.floor(from / size); group * size < this.end; group += 1) {
      let seconds = 0;
      const sum = [0, 0];
      const peak = [0, 0];
      for (let at = Math.max(from, group * size); at < Math.min(this.end, (group + 1) * size); at += 1) {
        const point = this.points[at - this.start];
        if (!point) continue;
        seconds += this.covered(at);
        for (const which of [0, 1]) {
          sum[which] += point[which];
          peak[which] = Math.max(peak[which], point[2 + which]);
        }
      }
      const begin = Math.max(from, group * size) * step;
      const end = Math.min(this.end, (group + 1) * size) * step;
      groups.push({
        begin,
        end,
        isKnown: seconds > 0,
        peak,
        mean: sum.map((value) => (seconds > 0 ? value / seconds : 0)),
      });
    }
    return { groups, isMerged: size * step > 1, from: from * step, to: this.end * step };
  }
}

/** Round numbers from 0 to `most`: 1, 2 or 5 times a power of ten apart, whole, about `wanted` of them. */
function roundTicks(most, wanted) {
  const rough = most / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const factor = [1, 2, 5, 10].find((one) => one * power >= rough * 0.8);
  const step = Math.max(1, factor * power);
  const ticks = [];
  for (let value = 0; value <= most; value += step) ticks.push(value);
  return ticks;
}

const MINUTES_APART = [1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 7200, 10080];

/** Times between two times (in seconds) that are round on this clock, `space` seconds apart or more. */
function timeTicks(from, to, space) {
  const apart = MINUTES_APART.find((minutes) => minutes * 60 >= space) ?? 10080;
  const begin = new Date(from * 1000);
  const [year, month, day] = [begin.getFullYear(), begin.getMonth(), begin.getDate()];
  const ticks = [];
  // By the calendar, so that a day with 23 or 25 hours has its ticks at round hours too.
  const first = apart >= 1440 ? 0 : Math.floor((begin.getHours() * 60 + begin.getMinutes()) / apart);
  for (let i = first, guard = 0; guard < 200; i += 1, guard += 1) {
    const date =
      apart >= 1440 ? new Date(year, month, day + (i * apart) / 1440) : new Date(year, month, day, 0, i * apart);
    const time = date.getTime() / 1000;
    if (time > to) break;
    if (time < from || (ticks.length > 0 && time <= ticks[ticks.length - 1].time)) continue;
    const isMidnight = date.getHours() === 0 && date.getMinutes() === 0;
    ticks.push({ time, text: isMidnight && to - from > 7200 ? DAY.format(date).replace(",", "") : clock(date) });
  }
  return ticks;
}

function svg(parent, name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

/** One of the two: `which` is 0 for what was accepted, 1 for what was refused. */
class Graph {
  constructor(element, which) {
    this.element = element;
    this.which = which;
    this.cross = null;
  }

  get room() {
    const width = Math.max(160, this.element.clientWidth);
    const height = Math.max(80, this.element.clientHeight);
    return { left: 46, right: width - 12, top: 14, bottom: height - 22, width, height };
  }

  x(time) {
    const { left, right } = this.room;
    return left + ((time - this.shown.from) / (this.shown.to - this.shown.from)) * (right - left);
  }

  time(x) {
    const { left, right } = this.room;
    return this.shown.from + ((x - left) / (right - left)) * (this.shown.to - this.shown.from);
  }

  /** How many columns there are for points: up to two a pixel, where the screen has them. */
  get columns() {
    const density = Math.min(2, Math.max(1, window.devicePixelRatio));
    return Math.floor((this.room.right - this.room.left) * density);
  }

  /** Draws everything anew. `limit` may be null; `marks` are events. */
  draw(shown, limit, marks) {
    this.shown = shown;
    const { left, right, top, bottom, width, height } = this.room;
    const root = this.element;
    root.replaceChildren();
    root.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const most = shown.groups.reduce((most, group) => Math.max(most, group.peak[this.which]), 0);
    // A limit far above all that happens would press the line to the ground.
    const isLimitShown = limit !== null && limit <= Math.max(20, most * 8);
    this.top = Math.max(1, most * 1.06, isLimitShown ? limit * 1.12 : 0);
    for (const tick of roundTicks(this.top, Math.max(2, (bottom - top) / 40))) {
      const y = this.y(tick);
      svg(root, "line", { class: tick === 0 ? "base" : "grid", x1: left, x2: right, y1: y, y2: y });
      svg(root, "text", { x: left - 8, y: y + 4, "text-anchor": "end" }, GROUPED.format(tick));
    }
    for (const { time, text } of timeTicks(shown.from, shown.to, ((shown.to - shown.from) * 66) / (right - left))) {
      const x = this.x(time);
      svg(root, "line", { class: "base", x1: x, x2: x, y1: bottom, y2: bottom + 4 });
      // At the sides it would be cut.
      if (x > left - 10 && x < right - 14) svg(root, "text", { x, y: bottom + 17, "text-anchor": "middle" }, text);
    }
    this.drawMarks(marks);
    this.drawLines();
    if (limit !== null) {
      const y = isLimitShown ? this.y(limit) : top;
      if (isLimitShown) svg(root, "line", { class: "limit", x1: left, x2: right, y1: y, y2: y });
      const text = `limit ${GROUPED.format(limit)}${isLimitShown ? "" : ", above"}`;
      svg(root, "text", { class: "limit-name", x: left + 8, y: y - 5, "text-anchor": "start" }, text);
    }
    this.cross = svg(root, "g", {});
  }

  y(value) {
    const { top, bottom } = this.room;
    return bottom - (value / this.top) * (bottom - top);
  }

  drawMarks(marks) {
    const { top, bottom } = this.room;
    let last = -Infinity;
    for (const { time, severity } of marks) {
      const x = this.x(time);
      if (x - last < 3) continue;
      last = x;
      svg(this.element, "line", { class: "mark", x1: x, x2: x, y1: top, y2: bottom });
      svg(this.element, "path", { class: `flag ${severity}`, d: `M${x} ${bottom - 1}l-4.5 8h9z` });
    }
  }

  drawLines() {
    const { bottom } = this.room;
    const { groups, isMerged } = this.shown;
    // Seconds that are wide enough are drawn as what they are, with a beginning and an end.
    const isWide = groups.length > 0 && this.x(groups[0].end) - this.x(groups[0].begin) >= 2.5 && !isMerged;
    const pieces = [[]];
    for (const group of groups) {
      if (group.isKnown) pieces[pieces.length - 1].push(group);
      else if (pieces[pieces.length - 1].length > 0) pieces.push([]);
    }
    const line = (of) => {
      const parts = pieces.filter((piece) => piece.length > 0);
      return parts.map((piece) => {
        const steps = piece.map((group) => {
          const y = this.y(of(group)).toFixed(1);
          const [begin, end] = [this.x(group.begin), this.x(group.end)];
          return isWide ? `${begin.toFixed(1)} ${y}H${end.toFixed(1)}` : `${((begin + end) / 2).toFixed(1)} ${y}`;
        });
        if (!isWide && steps.length === 1) steps.push(`${this.x(piece[0].end).toFixed(1)} ${this.y(of(piece[0])).toFixed(1)}`);
        const ends = [this.x(piece[0].begin), this.x(piece[piece.length - 1].end)];
        return { line: `M${steps.join("L")}`, ends };
      });
    };
    const peak = line((group) => group.peak[this.which]);
    const area = peak.map(({ line, ends }) => `${line}L${ends[1].toFixed(1)} ${bottom}L${ends[0].toFixed(1)} ${bottom}Z`);
    svg(this.element, "path", { class: "area", d: area.join("") });
    if (isMerged) {
      svg(this.element, "path", { class: "mean", d: line((group) => group.mean[this.which]).map((part) => part.line).join("") });
    }
    svg(this.element, "path", { class: "peak", d: peak.map((part) => part.line).join("") });
  }

  /** Shows or hides the crosshair at a group. */
  point(group) {
    if (!this.cross) return;
    this.cross.replaceChildren();
    if (!group) return;
    const { top, bottom } = this.room;
    const x = (this.x(group.begin) + this.x(group.end)) / 2;
    svg(this.cross, "line", { class: "cross", x1: x, x2: x, y1: top, y2: bottom });
    if (group.isKnown) svg(this.cross, "circle", { class: "dot", cx: x, cy: this.y(group.peak[this.which]), r: 4 });
  }
}
