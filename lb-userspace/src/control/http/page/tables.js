/* The tables and the list of what changed. Text of the node is set as text, never as HTML. */

/** Makes the rows of a table body what `rows` says: each `{key, cells}`, a cell a text or a function that fills it. */
function fill(body, rows) {
  const old = new Map(Array.from(body.children, (row) => [row.dataset.key, row]));
  rows.forEach(({ key, cells, head }, place) => {
    let row = old.get(key);
    old.delete(key);
    if (!row) {
      row = make("tr", { role: "row" });
      row.dataset.key = key;
      for (const cell of cells) {
        const kind = [cell.number ? "n" : "", cell.isLess ? "less" : ""].join(" ").trim();
        const td = make(cell.head ? "th" : "td", { class: kind, role: cell.head ? "rowheader" : "cell" });
        if (cell.span) td.colSpan = cell.span;
        if (cell.head) td.scope = cell.span ? "rowgroup" : "row";
        if (cell.name) td.dataset.name = cell.name;
        row.append(td);
      }
      if (head) row.className = head;
    }
    cells.forEach((cell, i) => {
      if (typeof cell.content === "function") cell.content(row.children[i]);
      else setText(row.children[i], cell.content);
    });
    if (body.children[place] !== row) body.insertBefore(row, body.children[place] ?? null);
  });
  for (const row of old.values()) row.remove();
}

/** A body of a table by its key. */
function bodyOf(table, key) {
  for (const body of table.tBodies) if (body.dataset.key === key) return body;
  const body = make("tbody", { role: "rowgroup" });
  body.dataset.key = key;
  table.append(body);
  return body;
}

/** A word in its colour and sign, and a line below. */
function stated(word, kind, line) {
  return (cell) => {
    if (!cell.firstChild) cell.append(make("span"), make("span", { class: "quiet" }));
    cell.firstChild.className = `state ${kind}`;
    setText(cell.firstChild, word);
    setText(cell.lastChild, line ?? "");
  };
}

/** A name, and a line below. */
function named(name, line) {
  return (cell) => {
    if (!cell.firstChild) cell.append(make("strong"), make("span", { class: "quiet" }));
    setText(cell.firstChild, name);
    setText(cell.lastChild, line);
  };
}

const STATES = { active: "good", draining: "warn", unhealthy: "bad", disabled: "warn" };

function showBackends(live) {
  const table = $("backends");
  const bodies = new Set();
  for (const pool of live.pools) {
    const body = bodyOf(table, pool.name);
    bodies.add(body);
    const head = (cell) => {
      if (!cell.firstChild) cell.append(make("span"), make("span", { class: "quiet" }), make("span", { class: "bad" }));
      setText(cell.children[0], pool.name);
      setText(cell.children[1], pool.strategy);
      setText(cell.children[2], pool.panic ? "panic: all look dead, so all are used" : "");
    };
    const rows = [{ key: "pool", head: "pool", cells: [{ content: head, head: true, span: 8 }] }];
    for (const backend of live.backends.filter((one) => one.pool === pool.name)) rows.push(backendRow(backend));
    fill(body, rows);
  }
  for (const body of Array.from(table.tBodies)) if (!bodies.has(body)) body.remove();
}

function backendRow(backend) {
  const same = (one) => one.backends.find((other) => other.index === backend.index);
  const isRamping = backend.ramp < 1 && backend.state === "active";
  const notes = [
    backend.operator ? "by the operator" : null,
    backend.state !== "active" || backend.operator ? backend.reason : null,
    isRamping ? `starts slowly: ${Math.round(backend.ramp * 100)} % of its weight` : null,
  ];
  const share = (cell) => {
    if (!cell.firstChild) {
      const track = make("span", { class: "track", "aria-hidden": "true" }, make("i"));
      cell.append(make("div", { class: "share" }, track, make("span", { class: "n" })));
    }
    const [track, text] = cell.firstChild.children;
    track.firstChild.style.width = `${backend.share_percent}%`;
    setText(text, `${backend.share_percent.toFixed(1)} %`);
  };
  const latency = backend.latency_ms;
  return {
    key: `${backend.index}`,
    cells: [
      { content: named(backend.name, backend.address) },
      { content: stated(backend.state, STATES[backend.state] ?? "warn", notes.filter(Boolean).join("; ")) },
      { content: share, name: "Share of new calls" },
      { content: rateText(rate((one) => same(one)?.requests)), number: true, name: "Requests/s" },
      { content: rateText(rate((one) => same(one)?.responses)), number: true, isLess: true, name: "Responses/s" },
      { content: GROUPED.format(backend.pins), number: true, name: "Pinned" },
      { content: latency ? `${latency[1].toFixed(1)} ms` : "-", number: true, name: "Probe, mean" },
      { content: backend.since_s === null ? "at the start" : `${duration(backend.since_s)} ago`, number: true, name: "Last change" },
    ],
  };
}

const BY = { XDP: "the XDP program", socket: "the AF_XDP socket", worker: "the worker", kernel: "the kernel" };

function showLosses(live) {
  const same = (loss) => (one) => one.losses.find((other) => other.by === loss.by && other.name === loss.name)?.count ?? 0;
  const losses = live.losses.map((loss) => ({ ...loss, rate: rate(same(loss)) }));
  losses.sort((a, b) => b.count - a.count);
  $("no-losses").hidden = losses.length > 0;
  $("losses").hidden = losses.length === 0;
  const rows = losses.map((loss) => ({
    key: `${loss.by} ${loss.name}`,
    cells: [
      { content: named(loss.name, loss.what === "refused" ? "answered with an error" : `dropped by ${BY[loss.by] ?? loss.by}`) },
      { content: rateText(loss.rate), number: true },
      { content: GROUPED.format(loss.count), number: true },
    ],
  }));
  fill(bodyOf($("losses"), "all"), rows);
}

function showQueues(live) {
  const rows = live.queues.map((queue, place) => {
    const status = live.status.workers[place];
    const same = (one) => one.queues[place];
    const isOpen = status?.sockets.every((socket) => socket.gate_open) ?? true;
    const isDead = status && status.heartbeat_age_ms > 1000;
    const word = isDead ? ["silent", "bad", `for ${duration(status.heartbeat_age_ms / 1000)}`] : isOpen ? ["runs", "good", ""] : ["gate closed", "bad", "its queue goes to the kernel"];
    return {
      key: `${place}`,
      cells: [
        { content: queue.cpu, name: "CPU" },
        { content: queue.queue, name: "Queue" },
        { content: stated(...word) },
        { content: queue.data_path, name: "Data path" },
        { content: rateText(rate((one) => same(one)?.received)), number: true, name: "In/s" },
        { content: rateText(rate((one) => same(one)?.sent)), number: true, name: "Out/s" },
        { content: rateText(rate((one) => same(one)?.lost)), number: true, name: "Lost/s" },
        { content: chunks(status?.frames), name: "Chunks of the UMEM" },
      ],
    };
  });
  fill(bodyOf($("queues"), "all"), rows);
}

/** Where the chunks are, as a bar and in numbers. */
function chunks(frames) {
  return (cell) => {
    if (!frames) return setText(cell, "none: kernel sockets");
    const kinds = ["free", "fill", "rx", "tx"];
    if (!cell.querySelector(".track")) {
      const track = make("span", { class: "track", "aria-hidden": "true" }, ...kinds.map((kind) => make("i", { class: kind })));
      cell.replaceChildren(make("div", { class: "chunks" }, track, make("span", { class: "quiet" })));
    }
    const [track, text] = cell.firstChild.children;
    kinds.forEach((kind, i) => {
      track.children[i].style.width = `${(100 * frames[kind]) / Math.max(1, frames.total)}%`;
    });
    setText(text, kinds.map((kind) => `${kind} ${GROUPED.format(frames[kind])}`).join(" · "));
  };
}

function showEvents() {
  const list = $("events");
  const newest = state.events.slice(-SHOWN_EVENTS).reverse();
  $("no-events").hidden = newest.length > 0;
  setText($("events-count"), state.events.length > SHOWN_EVENTS ? `newest ${SHOWN_EVENTS} of ${state.events.length}` : "");
  if (list.firstChild?.dataset.id === String(newest[0]?.id)) return;
  const known = new Map(Array.from(list.children, (item) => [item.dataset.id, item]));
  list.replaceChildren(...newest.map((event) => known.get(String(event.id)) ?? eventItem(event)));
}

const NOUNS = { worker: "worker", pool: "pool", reload: "configuration" };

/** Whom an event is about: a number alone says little. */
function subject(event) {
  const noun = NOUNS[event.kind.split("_", 1)[0]];
  return noun ? `${noun} ${event.subject}` : event.subject;
}

function eventItem(event) {
  const time = make("time", { datetime: new Date(event.time_ms).toISOString() }, when(event.time_ms));
  const kind = make("span", { class: "kind" }, event.kind.replaceAll("_", " "));
  const line = make("div", { class: "line" }, kind, time);
  const item = make("li", { class: event.severity }, line, make("div", {}, make("strong", {}, subject(event)), ` ${event.text}`));
  item.dataset.id = event.id;
  return item;
}
