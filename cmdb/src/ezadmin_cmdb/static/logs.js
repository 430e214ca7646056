// The page of logs. Its state is its address: whatever changes the search goes to another one. What was found is fetched,
// so that it can be cancelled. All text of events comes from the server as escaped markup or is set as text.
(() => {
  const root = document.getElementById("logs");
  if (!root) return;
  const texts = JSON.parse(root.dataset.texts);
  const $ = (id) => document.getElementById(id);
  const language = document.documentElement.lang;
  const number = new Intl.NumberFormat(language);
  const params = (more = {}) => {
    const found = new URLSearchParams(root.dataset.query);
    for (const [name, value] of Object.entries(more)) found.set(name, value);
    return found;
  };
  const go = (more) => location.assign(`/logs/?${params(more)}`);
  const fragment = (markup) => document.createRange().createContextualFragment(markup);
  const keep = (name, value) => { try { localStorage.setItem(name, value); } catch { /* it is only a comfort */ } };
  const kept = (name) => { try { return localStorage.getItem(name); } catch { return null; } };

  const get = async (path, more, signal) => {
    const answer = await fetch(`/logs/${path}?${params(more)}`, { signal, headers: { Accept: "*/*" } });
    if (answer.redirected && answer.url.includes("/sign-in")) location.reload();
    if (!answer.ok) throw new Error(String(answer.status));
    return answer;
  };

  const reveal = (within) => {
    for (const one of within.querySelectorAll(".needs-script:not(#log-status):not(#log-hist)")) one.hidden = false;
  };
  reveal(root);

  // -- what was found ---
  const status = (text, cancel = false) => {
    $("log-status").hidden = !text;
    $("log-status-text").textContent = text;
    $("log-cancel").hidden = !cancel;
  };
  const oneLine = () => {
    const button = $("log-oneline");
    const on = kept("logs.oneline") === "1";
    $("log-results").classList.toggle("one-line", on);
    button?.setAttribute("aria-pressed", String(on));
  };
  // All that this page has Elasticsearch look for at a time has one id, by which a cancel ends it there.
  const begun = () => ({ id: crypto.getRandomValues(new Uint32Array(3)).join("-"), giving: new AbortController() });
  let running = null, live = null;
  const under = async (ask) => {
    running ??= { ...begun(), parts: 0, slow: setTimeout(status, 200, texts.searching, true) };
    const mine = running;
    mine.parts += 1;
    try {
      return await ask({ run: mine.id }, mine.giving.signal);
    } finally {
      mine.parts -= 1;
      if (running === mine && !mine.parts) {
        running = null;
        clearTimeout(mine.slow);
        if (live) liveStatus();
        else status("");
      }
    }
  };
  const run = async () => {
    const parts = [
      under(async (more, signal) => {
        $("log-results").replaceChildren(fragment(await (await get("results", more, signal)).text()));
        reveal($("log-results"));
        oneLine();
      }),
      under(async (more, signal) => draw(await (await get("histogram", more, signal)).json())),
      under(async (more, signal) => {
        $("log-fields-list").replaceChildren(fragment(await (await get("fields", more, signal)).text()));
      }),
    ];
    const { signal } = running.giving;
    const done = await Promise.allSettled(parts);
    if (!signal.aborted && done.some((one) => one.status === "rejected")) status(texts.failed);
  };
  const end = (id) => fetch("/logs/cancel", {
    method: "POST", keepalive: true, body: new URLSearchParams({ run: id }), headers: { "X-CSRFToken": root.dataset.csrf },
  }).catch(() => {});
  const cancel = async () => {
    if (!running) return;
    const { id, giving, slow } = running;
    running = null;
    clearTimeout(slow);
    giving.abort();
    status(texts.cancelled);
    await end(id);
    setTimeout(end, 1000, id); // what was still on its way to Elasticsearch
  };
  addEventListener("pagehide", () => { // another search, another page
    for (const one of [running, looking]) if (one) end(one.id);
  });

  // -- the histogram ---
  const GROUPS = [
    ["unknown", ["unknown"]], ["debug", ["debug", "trace"]], ["info", ["info", "notice"]], ["warning", ["warning"]],
    ["error", ["error"]], ["critical", ["critical", "alert", "emergency"]],
  ];
  const svg = (name, attributes, text) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const sum = (counts, levels) => levels.reduce((all, level) => all + (counts[level] || 0), 0);
  const total = (counts) => Object.values(counts).reduce((all, one) => all + one, 0);
  let drawn = null;
  const zone = decodeURIComponent(/(?:^|; )tz=([^;]*)/.exec(document.cookie)?.[1] || "UTC");
  const time = (value, span) => new Intl.DateTimeFormat(language, {
    timeZone: zone, hour12: false, ...(span > 86400e3 * 1.5 ? { month: "numeric", day: "numeric" } : {}),
    ...(span < 86400e3 * 12 ? { hour: "2-digit", minute: "2-digit" } : {}), ...(span < 600e3 ? { second: "2-digit" } : {}),
  }).format(value);
  const exact = new Intl.DateTimeFormat(language, { timeZone: zone, dateStyle: "medium", timeStyle: "medium" });
  const draw = (data) => {
    drawn = { ...data, from: null, to: null };
    $("log-hist").hidden = false;
    $("log-hist-text").textContent = `${number.format(data.total)} ${texts.events} · ${texts.about} ${spell(data.seconds)}`;
    $("log-hist-note").hidden = !data.note;
    $("log-hist-note").textContent = data.note;
    $("log-hist-missing").hidden = !data.missing;
    $("log-hist-missing").querySelector("span").textContent = data.missing;
    for (const key of $("log-legend").querySelectorAll("[data-levels]")) {
      const levels = key.dataset.levels.split(" ");
      const count = data.buckets.reduce((all, bucket) => all + sum(bucket[2], levels), 0);
      key.querySelector(".log-count").textContent = number.format(count);
    }
    paint();
  };
  const spell = (seconds) => {
    for (const [unit, size] of [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]]) {
      if (seconds % size === 0) {
        return new Intl.NumberFormat(language, { style: "unit", unit, unitDisplay: "short" }).format(seconds / size);
      }
    }
    return String(seconds);
  };
  const WIDTH = () => Math.max(300, $("log-bars").clientWidth);
  const HEIGHT = 115, BOTTOM = 97, TOP = 12;
  const paint = () => {
    const width = WIDTH(), span = drawn.end - drawn.start;
    const x = (at) => ((at - drawn.start) / span) * width;
    const most = Math.max(1, ...drawn.buckets.map((bucket) => total(bucket[2])));
    const made = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, "aria-hidden": "true", focusable: "false" });
    made.append(svg("line", { class: "axis", x1: 0, x2: width, y1: BOTTOM, y2: BOTTOM }));
    drawn.buckets.forEach(([begin, end, counts]) => {
      let y = BOTTOM;
      for (const [name, levels] of GROUPS) {
        const count = sum(counts, levels);
        if (!count) continue;
        const height = Math.max(0.7, (count / most) * (BOTTOM - TOP));
        y -= height;
        const wide = Math.max(0.6, x(end) - x(begin) - (x(end) - x(begin) > 4 ? 1 : 0));
        made.append(svg("rect", { class: `hist-${name}`, x: x(begin), y, width: wide, height }));
      }
    });
    made.append(svg("text", { x: 2, y: 9 }, number.format(most)));
    const steps = Math.max(2, Math.floor(width / 130));
    for (let step = 0; step <= steps; step += 1) {
      const at = drawn.start + (span * step) / steps;
      const anchor = step === 0 ? "start" : step === steps ? "end" : "middle";
      made.append(svg("text", { x: x(at), y: HEIGHT - 5, "text-anchor": anchor }, time(at, span)));
    }
    if (drawn.from !== null) {
      const [low, high] = marked();
      const begin = drawn.buckets[low][0], end = drawn.buckets[high][1];
      made.append(svg("rect", { class: "brush", x: x(begin), y: 0, width: Math.max(2, x(end) - x(begin)), height: BOTTOM }));
    }
    $("log-bars").replaceChildren(made);
  };
  const marked = () => [Math.min(drawn.from, drawn.to), Math.max(drawn.from, drawn.to)];
  const say = () => {
    const [low, high] = marked();
    const counts = {};
    for (const bucket of drawn.buckets.slice(low, high + 1)) {
      for (const [level, count] of Object.entries(bucket[2])) counts[level] = (counts[level] || 0) + count;
    }
    const levels = [...$("log-legend").querySelectorAll("[data-levels]")].flatMap((key) => {
      const count = sum(counts, key.dataset.levels.split(" "));
      return count ? [`${key.querySelector(".log-level").textContent} ${number.format(count)}`] : [];
    }).join(", ");
    const span = `${exact.format(drawn.buckets[low][0])} – ${exact.format(drawn.buckets[high][1])}`;
    $("log-bar-text").textContent = `${span}: ${number.format(total(counts))} ${texts.events}${levels ? `, ${levels}` : ""}`;
    $("log-bars").title = $("log-bar-text").textContent;
  };
  const mark = (from, to) => {
    drawn.from = from;
    drawn.to = to;
    paint();
    say();
  };
  const zoom = () => {
    const [low, high] = marked();
    go({ from: new Date(drawn.buckets[low][0]).toISOString(), to: new Date(drawn.buckets[high][1]).toISOString() });
  };
  const bucketAt = (event) => {
    const box = $("log-bars").getBoundingClientRect();
    const at = drawn.start + (Math.min(Math.max(0, event.clientX - box.left), box.width) / box.width) * (drawn.end - drawn.start);
    const found = drawn.buckets.findIndex((bucket) => at < bucket[1]);
    return found < 0 ? drawn.buckets.length - 1 : found;
  };
  const bars = $("log-bars");
  if (bars) {
    let dragging = false;
    bars.addEventListener("pointerdown", (event) => {
      if (!drawn || event.button !== 0) return;
      dragging = true;
      bars.setPointerCapture(event.pointerId);
      mark(bucketAt(event), bucketAt(event));
    });
    bars.addEventListener("pointermove", (event) => {
      if (!drawn) return;
      const at = bucketAt(event);
      if (dragging) mark(drawn.from, at);
      else mark(at, at);
    });
    bars.addEventListener("pointerup", () => {
      if (dragging) zoom();
      dragging = false;
    });
    bars.addEventListener("pointercancel", () => { dragging = false; });
    bars.addEventListener("pointerleave", () => {
      if (dragging || !drawn) return;
      drawn.from = drawn.to = null;
      paint();
    });
    bars.addEventListener("keydown", (event) => {
      if (!drawn) return;
      const last = drawn.buckets.length - 1;
      const place = { Home: 0, End: last }[event.key], step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (place !== undefined || step !== undefined) {
        event.preventDefault();
        const next = drawn.to === null ? (step > 0 ? 0 : last) : Math.min(last, Math.max(0, drawn.to + step));
        const to = place ?? next;
        mark(event.shiftKey && drawn.from !== null ? drawn.from : to, to);
      } else if (event.key === "Enter" && drawn.from !== null) {
        zoom();
      } else if (event.key === "Escape") {
        drawn.from = drawn.to = null;
        paint();
      }
    });
    new ResizeObserver(() => { if (drawn) paint(); }).observe(bars);
  }

  // -- completion ---
  const input = $("q"), list = $("q-list");
  let options = [], chosen = -1, looking = null, typing = 0;
  const show = (open) => {
    list.hidden = !open;
    input.setAttribute("aria-expanded", String(open));
    if (!open) choose(-1);
  };
  const choose = (index) => {
    chosen = index;
    [...list.children].forEach((one, at) => one.setAttribute("aria-selected", String(at === index)));
    const one = list.children[index];
    if (one) {
      input.setAttribute("aria-activedescendant", one.id);
      one.scrollIntoView({ block: "nearest" });
    } else {
      input.removeAttribute("aria-activedescendant");
    }
  };
  const offer = (found) => {
    options = found;
    list.replaceChildren(...found.map((one, at) => {
      const made = document.createElement("div");
      made.id = `q-option-${at}`;
      made.className = "find-hit mono";
      made.setAttribute("role", "option");
      made.setAttribute("aria-selected", "false");
      made.textContent = one.title;
      if (one.hint) {
        const hint = document.createElement("span");
        hint.className = "find-why";
        hint.textContent = ` ${one.hint}`;
        made.append(hint);
      }
      return made;
    }));
    chosen = -1;
    show(found.length > 0 && document.activeElement === input);
  };
  const take = (one) => {
    input.setRangeText(one.text, one.start, one.end, "end");
    show(false);
    if (one.whole) $("log-form").requestSubmit();
    else input.dispatchEvent(new Event("input"));
  };
  const history = () => { try { return JSON.parse(kept("logs.history") || "[]"); } catch { return []; } };
  const complete = async () => {
    if (looking) {
      looking.giving.abort();
      end(looking.id);
      looking = null;
    }
    if (input.value === "") {
      offer(history().map((text) => ({ text, title: text, hint: texts.recent, start: 0, end: 0, whole: true })));
      return;
    }
    const mine = looking = begun();
    try {
      const more = { text: input.value, at: input.selectionStart, run: mine.id };
      offer(await (await get("complete", more, mine.giving.signal)).json());
    } catch { /* writing goes on without */ }
    if (looking === mine) looking = null;
  };
  input.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(complete, 150);
  });
  input.addEventListener("keydown", (event) => {
    if (event.isComposing) return; // Korean is still being put together
    if (event.key === "Escape" && !list.hidden) {
      event.preventDefault();
      show(false);
    } else if (event.key === "ArrowDown" && list.hidden) {
      event.preventDefault();
      complete();
    } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && options.length) {
      event.preventDefault();
      const step = event.key === "ArrowDown" ? 1 : -1;
      choose(chosen < 0 ? (step > 0 ? 0 : options.length - 1) : (chosen + step + options.length) % options.length);
    } else if ((event.key === "Enter" || event.key === "Tab") && !list.hidden && chosen >= 0) {
      event.preventDefault();
      take(options[chosen]);
    }
  });
  list.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    const at = [...list.children].indexOf(event.target.closest("[role=option]"));
    if (at >= 0) take(options[at]);
  });
  input.addEventListener("blur", () => show(false));
  $("log-form").addEventListener("submit", () => {
    const text = input.value.trim();
    if (text) keep("logs.history", JSON.stringify([text, ...history().filter((one) => one !== text)].slice(0, 15)));
    for (const one of $("log-form").elements) if (one.name && one.value === "") one.disabled = true;
  });

  // -- times ---
  for (const picker of root.querySelectorAll("[data-picks]")) {
    picker.addEventListener("change", () => { if (picker.value) $(picker.dataset.picks).value = picker.value; });
  }
  document.addEventListener("click", (event) => {
    const open = root.querySelector(".log-range[open]");
    if (open && !event.target.closest(".log-range")) open.open = false;
  });

  // -- rows and fields that unfold, more rows ---
  const unfold = async (link) => {
    const row = link.closest("tr"), below = row.nextElementSibling;
    if (below?.classList.contains("log-details")) {
      below.hidden = !below.hidden;
      link.setAttribute("aria-expanded", String(!below.hidden));
      return;
    }
    const answer = await fetch(`${link.href}&part=1`);
    if (!answer.ok) { location.assign(link.href); return; }
    const details = document.createElement("tr"), cell = document.createElement("td");
    details.className = "log-details";
    cell.colSpan = row.children.length;
    cell.append(fragment(await answer.text()));
    details.append(cell);
    row.after(details);
    link.setAttribute("aria-expanded", "true");
  };
  const further = async (link) => {
    const place = link.closest("p"), address = new URL(link.href);
    let found;
    try {
      found = await under(async (more, signal) => {
        address.searchParams.set("run", more.run);
        const answer = await fetch(address, { signal });
        if (!answer.ok) throw new Error(String(answer.status));
        return fragment(await answer.text());
      });
    } catch (error) {
      if (error.name !== "AbortError") status(texts.failed);
      return;
    }
    const rows = found.querySelectorAll(".log-table tbody > tr"), next = found.querySelector("p.log-more");
    if (rows.length) $("log-results").querySelector(".log-table tbody").append(...rows);
    place.replaceWith(...(next ? [next] : rows.length ? [] : [found]));
  };
  root.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-event], a[data-more]");
    if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      (link.matches("[data-event]") ? unfold : further)(link);
    } else if (event.target.closest("#log-oneline")) {
      keep("logs.oneline", kept("logs.oneline") === "1" ? "0" : "1");
      oneLine();
    }
  });
  root.addEventListener("keydown", (event) => {
    if (event.key === " " && event.target.matches?.("a[data-event]")) {
      event.preventDefault();
      unfold(event.target);
    }
  });
  root.addEventListener("toggle", async (event) => {
    const field = event.target.closest?.(".log-field"), place = field?.querySelector(".log-values");
    if (!field?.open || !place || place.childElementCount) return;
    try {
      await under(async (more, signal) => {
        const answer = await get("values", { ...more, field: field.dataset.field }, signal);
        place.replaceChildren(fragment(await answer.text()));
      });
    } catch (error) { place.textContent = error.name === "AbortError" ? "" : texts.failed; }
  }, true);
  const fields = $("log-fields");
  if (fields) fields.open = matchMedia("(min-width: 768px)").matches;

  // -- links and exports ---
  for (const button of root.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", async () => {
      const from = $(button.dataset.copy);
      from.select();
      try { await navigator.clipboard.writeText(from.value); } catch { document.execCommand("copy"); }
      button.textContent = texts.copied;
    });
  }
  // With a file to write into, lines go there as they come, and are counted; else the browser saves the file itself.
  for (const link of root.querySelectorAll("[data-export]")) {
    link.addEventListener("click", async (event) => {
      if (!window.showSaveFilePicker) return;
      event.preventDefault();
      const said = $("log-export");
      let file;
      try {
        file = await (await window.showSaveFilePicker({ suggestedName: link.dataset.export })).createWritable();
      } catch { return; }
      said.hidden = false;
      // the first line of CSV is its head, and a line that is quoted may hold further ones
      const csv = link.dataset.export.endsWith(".csv");
      let lines = csv ? -1 : 0, quoted = false;
      try {
        const answer = await fetch(`${link.href}&count=1`);
        if (!answer.ok) throw new Error(String(answer.status));
        const all = answer.headers.get("Ezadmin-Lines");
        const counted = new TransformStream({
          transform(chunk, onward) {
            for (const one of chunk) {
              if (csv && one === 34) quoted = !quoted;
              else if (one === 10 && !quoted) lines += 1;
            }
            const n = number.format(Math.max(0, lines));
            const progress = (all ? texts.of.replace("{all}", number.format(all)) : texts.lines).replace("{n}", n);
            said.textContent = `${texts.exporting} ${progress}`;
            onward.enqueue(chunk);
          },
        });
        await answer.body.pipeThrough(counted).pipeTo(file);
        said.textContent = `${texts.exported} ${texts.lines.replace("{n}", number.format(Math.max(0, lines)))}`;
      } catch {
        said.textContent = texts.incomplete;
      }
    });
  }

  // -- live ---
  const CAP = 2000;
  const RATE_SECONDS = 10;
  const rate = new Intl.NumberFormat(language, { maximumFractionDigits: 1 });
  const perSecond = () => {
    const now = performance.now();
    live.recent = live.recent.filter(([at]) => at > now - RATE_SECONDS * 1000);
    const seconds = Math.max(1, Math.min(RATE_SECONDS, (now - live.began) / 1000));
    return live.recent.reduce((all, [, lines]) => all + lines, 0) / seconds;
  };
  const liveStatus = () => {
    const parts = [live.paused ? texts.paused : texts.live, `${number.format(live.lines)} ${texts.received}`];
    if (!live.paused) parts.push(`${rate.format(perSecond())} ${texts.rate}`);
    if (live.skipped) parts.push(`${texts.skipped} ${number.format(live.skipped)}`);
    if (live.dropped) parts.push(`${texts.dropped} ${number.format(live.dropped)}`);
    if (live.missing) parts.push(live.missing);
    status(parts.join(" · "));
  };
  const look = async () => {
    const mine = live;
    if (!mine || mine.paused) return;
    try {
      const found = await (await get("tail", mine.cursor ? { after: mine.cursor } : {})).json();
      if (live !== mine) return;
      const body = $("log-results").querySelector(".log-table tbody");
      if (mine.cursor) mine.recent.push([performance.now(), found.lines + found.skipped]); // not what was there before
      const rows = [...fragment(`<table><tbody>${found.rows}</tbody></table>`).querySelectorAll("tr")];
      if (mine.cursor) rows.forEach((row) => row.classList.add("log-new"));
      body.prepend(...rows);
      mine.cursor = found.cursor;
      mine.missing = found.missing;
      mine.lines += found.lines;
      mine.skipped += found.skipped;
      const all = body.querySelectorAll(".log-row");
      for (const row of [...all].slice(CAP)) {
        if (row.nextElementSibling?.classList.contains("log-details")) row.nextElementSibling.remove();
        row.remove();
        mine.dropped += 1;
      }
      liveStatus();
    } catch {
      status(texts.failed);
    }
    if (live === mine) mine.timer = setTimeout(look, document.hidden ? 5000 : 1000);
  };
  const toggleLive = async () => {
    const button = $("log-live");
    if (live) {
      clearTimeout(live.timer);
      live = null;
      location.reload();
      return;
    }
    await cancel();
    button.setAttribute("aria-pressed", "true");
    button.classList.add("active");
    $("log-pause").hidden = false;
    $("log-hist").hidden = true;
    const table = document.createElement("table"), scroll = document.createElement("div");
    table.className = "table log-table";
    const head = table.createTHead().insertRow();
    for (const name of ["", "@timestamp", ...(params().get("columns") || root.dataset.columns).split(",")]) {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.textContent = name;
      head.append(cell);
    }
    table.createTBody();
    scroll.className = "log-scroll";
    scroll.tabIndex = 0;
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", button.textContent.trim());
    scroll.append(table);
    $("log-results").replaceChildren(scroll);
    live = {
      cursor: null, lines: 0, skipped: 0, dropped: 0, paused: false, timer: 0, recent: [], missing: "",
      began: performance.now(),
    };
    liveStatus();
    look();
  };
  $("log-live")?.addEventListener("click", toggleLive);
  $("log-pause")?.addEventListener("click", () => {
    if (!live) return;
    live.paused = !live.paused;
    $("log-pause").setAttribute("aria-pressed", String(live.paused));
    clearTimeout(live.timer);
    liveStatus();
    if (!live.paused) look();
  });
  $("log-cancel")?.addEventListener("click", cancel);
  if (root.dataset.wrong !== "1" && root.dataset.plain !== "1") run();
  if (root.dataset.wrong === "1") $("log-live").hidden = true;
})();
