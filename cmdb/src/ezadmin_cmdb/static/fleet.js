// The table of all hosts: its rows come as one answer of JSON, are ordered here, and only those in sight are in the page.
(() => {
  const box = document.getElementById("fleet");
  if (!box) return;
  const HEIGHT = 32; // 2rem, as fleet.css has it
  const SPARE = 12;
  const EVERY = 10000;
  const [ID, NAME, STATE, NOTE, SEEN, NEAR, VALUES, STATES, LIMITS, MOUNT, ALERTS] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
  const COLUMNS = ["cpu", "memory", "disk", "load", "in", "out"];
  const WORST = { critical: 4, warning: 3, unknown: 2, maintenance: 1, ok: 0 };
  const CLASSES = { o: "state-ok", w: "state-warning", c: "state-critical", u: "state-unknown" };
  const SIGNS = { w: "! ", c: "!! " };
  const language = document.documentElement.lang || "en";
  const marks = {};
  for (const mark of document.getElementById("fleet-states").content.querySelectorAll("[data-state]")) marks[mark.dataset.state] = mark;
  const bells = {};
  for (const bell of document.getElementById("fleet-bells").content.querySelectorAll("[data-bell]")) bells[bell.dataset.bell] = bell;
  const words = JSON.parse(box.dataset.marks);
  const body = document.getElementById("fleet-rows");
  const search = document.getElementById("q");
  const note = document.getElementById("fleet-note");
  const missing = document.getElementById("fleet-missing");

  const percent = new Intl.NumberFormat(language, { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
  const whole = new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 0 });
  const plain = new Intl.NumberFormat(language, { minimumFractionDigits: 2, maximumFractionDigits: 2 });
  const short = new Intl.NumberFormat(language, { maximumFractionDigits: 1 });
  const ago = new Intl.RelativeTimeFormat(language, { style: "narrow" });
  const count = new Intl.NumberFormat(language);
  const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];
  const rate = (value) => {
    let unit = 0;
    while (value >= 1024 && unit < UNITS.length - 1) {
      value /= 1024;
      unit += 1;
    }
    return `${short.format(value)} ${UNITS[unit]}/s`;
  };
  const WRITERS = [percent.format, percent.format, percent.format, plain.format, rate, rate];
  const since = (seen) => {
    if (seen === null) return box.dataset.never;
    const seconds = Math.max(0, Math.round(Date.now() / 1000 - seen));
    if (seconds < 60) return ago.format(-seconds, "second");
    if (seconds < 3600) return ago.format(-Math.floor(seconds / 60), "minute");
    if (seconds < 172800) return ago.format(-Math.floor(seconds / 3600), "hour");
    return ago.format(-Math.floor(seconds / 86400), "day");
  };

  let rows = [];
  let texts = [];
  let shown = [];
  let total = 0;
  let only = "";
  let sort = { by: "near", down: true };

  const compare = (by) => {
    if (by === "name") return (a, b) => a[NAME].localeCompare(b[NAME], language, { numeric: true });
    if (by === "state") return (a, b) => WORST[a[STATE]] - WORST[b[STATE]] || a[NEAR] - b[NEAR];
    if (by === "near") return (a, b) => a[NEAR] - b[NEAR];
    if (by === "seen") return (a, b) => (a[SEEN] ?? 0) - (b[SEEN] ?? 0);
    const at = COLUMNS.indexOf(by);
    return (a, b) => (a[VALUES][at] ?? -1) - (b[VALUES][at] ?? -1);
  };

  const order = () => {
    const one = compare(sort.by);
    const sign = sort.down ? -1 : 1;
    shown = only ? rows.filter((row) => row[STATE] === only) : rows.slice();
    const names = new Map(rows.map((row, at) => [row[ID], at])); // as the server gave them: by name
    shown.sort((a, b) => sign * one(a, b) || names.get(a[ID]) - names.get(b[ID]));
    for (const button of box.querySelectorAll("[data-sort]")) {
      const mine = button.dataset.sort === sort.by;
      button.closest("th").setAttribute("aria-sort", mine ? (sort.down ? "descending" : "ascending") : "none");
    }
  };

  const cell = (tag, text, classes, title) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (classes) made.className = classes;
    if (title) made.title = title;
    return made;
  };

  const line = (row, at) => {
    const made = document.createElement("tr");
    made.dataset.id = row[ID];
    made.setAttribute("aria-rowindex", String(at + 2));
    const state = document.createElement("td");
    const mark = marks[row[STATE]].cloneNode(true);
    if (row[NOTE] >= 0) mark.title = texts[row[NOTE]];
    state.append(mark);
    const name = cell("th", undefined, "", row[NAME]);
    name.scope = "row";
    const link = cell("a", row[NAME]);
    link.href = box.dataset.host.replace("ID", row[ID]);
    name.append(link);
    made.append(state, name, cell("td", row[NEAR] ? whole.format(row[NEAR]) : "–", "num"));
    COLUMNS.forEach((_, column) => {
      const value = row[VALUES][column];
      const code = row[STATES][column];
      const limit = row[LIMITS][column];
      const why = [words[code], limit >= 0 ? texts[limit] : ""].filter(Boolean).join(": ");
      const made_ = cell("td", value === null ? "–" : (SIGNS[code] || "") + WRITERS[column](value), `num ${CLASSES[code] || ""}`, why);
      if (column === 2 && row[MOUNT]) {
        made_.title = [row[MOUNT], why].filter(Boolean).join("\n");
        made_.prepend(cell("span", `${row[MOUNT]} `, "fleet-mount"));
      }
      made_.dataset.column = COLUMNS[column];
      made.append(made_);
    });
    for (const [column, id, state, said] of row[ALERTS] || []) {
      const bell = bells[state].cloneNode(true);
      bell.href = box.dataset.alert.replace(/0$/, id);
      if (said >= 0) bell.title = texts[said];
      made.querySelector(`[data-column=${COLUMNS[column]}]`).append(" ", bell);
    }
    const seen = cell("td", since(row[SEEN]), "num");
    if (row[SEEN] !== null) seen.title = new Date(row[SEEN] * 1000).toLocaleString(language);
    made.append(seen);
    return made;
  };

  const space = (height) => {
    const made = cell("tr", undefined, "fleet-space");
    made.setAttribute("aria-hidden", "true");
    const inner = document.createElement("td");
    inner.colSpan = 10;
    inner.style.height = `${height}px`;
    made.append(inner);
    return made;
  };

  let drawn = "";
  const draw = (anew) => {
    const first = Math.max(0, Math.floor(box.scrollTop / HEIGHT) - SPARE);
    const last = Math.min(shown.length, Math.ceil((box.scrollTop + box.clientHeight) / HEIGHT) + SPARE);
    if (!anew && drawn === `${first} ${last}`) return;
    drawn = `${first} ${last}`;
    const focused = body.contains(document.activeElement) ? document.activeElement.closest("tr")?.dataset.id : null;
    const made = shown.slice(first, last).map((row, at) => line(row, first + at));
    if (shown.length === 0) {
      const empty = cell("tr");
      const inner = cell("td", box.dataset.none, "fleet-wait");
      inner.colSpan = 10;
      empty.append(inner);
      made.push(empty);
    }
    if (first > 0) made.unshift(space(first * HEIGHT));
    if (last < shown.length) made.push(space((shown.length - last) * HEIGHT));
    body.replaceChildren(...made);
    box.querySelector("table").setAttribute("aria-rowcount", String(shown.length + 1));
    if (focused) body.querySelector(`tr[data-id="${focused}"] a`)?.focus({ preventScroll: true });
  };

  const tell = () => {
    for (const button of document.querySelectorAll("[data-only]")) {
      const state = button.dataset.only;
      button.querySelector("[data-count]").textContent = count.format(rows.filter((row) => row[STATE] === state).length);
      button.setAttribute("aria-pressed", String(only === state));
    }
    const more = total > rows.length ? ` ${box.dataset.more}` : "";
    note.textContent = `${count.format(total)} ${total === 1 ? box.dataset.one : box.dataset.hosts}${more}`;
  };

  // What is chosen stands in the address behind the #, so that it can be sent and survives a reload.
  const remember = () => {
    const parts = new URLSearchParams();
    if (sort.by !== "near" || !sort.down) parts.set("sort", (sort.down ? "-" : "") + sort.by);
    if (only) parts.set("only", only);
    history.replaceState(null, "", `${location.pathname}${location.search}${parts.size ? `#${parts}` : ""}`);
  };
  const recall = () => {
    const parts = new URLSearchParams(location.hash.slice(1));
    const by = (parts.get("sort") || "-near").replace(/^-/, "");
    if (box.querySelector(`[data-sort="${CSS.escape(by)}"]`)) sort = { by, down: (parts.get("sort") || "-near").startsWith("-") };
    if (Object.hasOwn(WORST, parts.get("only") || "")) only = parts.get("only");
  };

  let asked = 0;
  const fetchRows = async () => {
    const mine = (asked += 1);
    try {
      const answer = await fetch(box.dataset.rows + location.search, { headers: { Accept: "application/json" } });
      if (answer.status === 401 || answer.redirected) return location.reload();
      if (!answer.ok) throw new Error(String(answer.status));
      const found = await answer.json();
      if (mine !== asked) return;
      ({ rows, texts, total } = found);
      missing.hidden = !found.missing;
      missing.querySelector(".small").textContent = found.missing || "";
      order();
      draw(true);
      tell();
      box.dataset.ready = String(rows.length);
    } catch {
      if (mine === asked) note.textContent = box.dataset.failed;
    }
  };

  recall();
  fetchRows();
  setInterval(() => {
    if (!document.hidden && !document.getSelection().toString()) fetchRows();
  }, EVERY);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) fetchRows();
  });
  let waits = false;
  box.addEventListener("scroll", () => {
    if (waits) return;
    waits = true;
    requestAnimationFrame(() => {
      waits = false;
      draw(false);
    });
  });
  window.addEventListener("resize", () => draw(false));
  box.querySelector("thead").addEventListener("click", (event) => {
    const by = event.target.closest("[data-sort]")?.dataset.sort;
    if (!by) return;
    sort = by === sort.by ? { by, down: !sort.down } : { by, down: by !== "name" };
    remember();
    order();
    box.scrollTop = 0;
    draw(true);
  });
  document.getElementById("fleet-counts").addEventListener("click", (event) => {
    const state = event.target.closest("[data-only]")?.dataset.only;
    if (!state) return;
    only = only === state ? "" : state;
    remember();
    order();
    box.scrollTop = 0;
    draw(true);
    tell();
  });

  // Searching as one types: only the rows are asked anew.
  let typing = 0;
  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => {
      const parts = new URLSearchParams(location.search);
      parts.delete("q");
      if (search.value.trim()) parts.set("q", search.value.trim());
      history.replaceState(null, "", `${location.pathname}${parts.size ? `?${parts}` : ""}${location.hash}`);
      box.scrollTop = 0;
      fetchRows();
    }, 200);
  });
  search.form.addEventListener("submit", (event) => event.preventDefault());

  // The form of filters is that of the inventory, which the inventory offers; here it leads to this page.
  const filters = document.getElementById("filter-form");
  filters.addEventListener("htmx:afterSwap", () => {
    const form = filters.querySelector("form");
    if (!form) return;
    form.action = filters.dataset.filters;
    form.querySelector("fieldset:has([name=columns])")?.remove();
    for (const link of form.querySelectorAll(".actions a")) link.href = filters.dataset.filters;
  });
})();
