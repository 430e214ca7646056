// Graphs: how a figure was, from the server, and how it goes on, from the gateway's WebSocket. Gaps stay gaps.
(() => {
  const root = document.getElementById("graphs");
  if (!root) return;
  const asked = JSON.parse(root.dataset.graph);
  const texts = JSON.parse(root.dataset.texts);
  const $ = (id) => document.getElementById(id);
  const language = document.documentElement.lang;
  const names = new Map(asked.hosts.map((host) => [host.id, host.name]));
  const DRAW_MS = 200, BANDS_MAX = 6, AGAIN_MS = 1000, AGAIN_MOST_MS = 30000;
  const LIMITS_MAX = 8, FAR_MAX = 5;

  // -- values ---
  const plain = new Intl.NumberFormat(language, { maximumFractionDigits: 2 });
  const percent = new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 1 });
  const UNITS = ["", "Ki", "Mi", "Gi", "Ti", "Pi"];
  const bytes = (value, unit) => {
    let power = 0;
    while (Math.abs(value) >= 1024 && power < UNITS.length - 1) { value /= 1024; power += 1; }
    return `${plain.format(value)} ${UNITS[power]}${unit}`;
  };
  const written = (value) => {
    if (value === null || value === undefined) return "–";
    if (asked.unit === "ratio") return percent.format(value);
    if (asked.unit === "byte") return bytes(value, "B");
    if (asked.unit === "byte/s") return bytes(value, "B/s");
    return asked.unit ? `${plain.format(value)} ${asked.unit}` : plain.format(value);
  };

  const zone = decodeURIComponent(/(?:^|; )tz=([^;]*)/.exec(document.cookie)?.[1] || "UTC");
  const span = asked.to - asked.from, DAY = 86400e3;
  const time = new Intl.DateTimeFormat(language, {
    timeZone: zone, hour12: false, ...(span > DAY ? { month: "numeric", day: "numeric" } : {}),
    ...(span < 12 * DAY ? { hour: "2-digit", minute: "2-digit" } : {}), ...(span < 600e3 ? { second: "2-digit" } : {}),
  });
  const clock = (seconds) => time.format(seconds * 1000);

  // -- lines ---
  const COLOURS = matchMedia("(prefers-color-scheme: dark)").matches || document.documentElement.dataset.bsTheme === "dark"
    ? ["#6cb6ff", "#ffa657", "#7ee787", "#ff7b72", "#d2a8ff", "#f0c14b", "#56d4dd", "#ff9bce", "#a5d6a7", "#c9d1d9"]
    : ["#0b62c4", "#b35900", "#1a7f37", "#cf222e", "#8250df", "#7d6000", "#0f7b85", "#bf3989", "#4d6b2f", "#57606a"];
  const DASHES = [[], [6, 3], [2, 3], [8, 3, 2, 3], [12, 4]];
  const lines = new Map(); // "host\nitem" -> line
  let step = 10, dirty = false, newest = 0;
  const lineOf = (host, item) => {
    const key = `${host}\n${item}`;
    let line = lines.get(key);
    if (!line) {
      line = { host, item, x: [], least: [], mean: [], most: [], shown: true, number: lines.size };
      lines.set(key, line);
    }
    return line;
  };
  const add = (host, item, at, least, mean, most) => {
    const line = lineOf(host, item), last = line.x[line.x.length - 1];
    newest = Math.max(newest, at);
    if (last !== undefined && at <= last) return; // came twice
    line.x.push(at); line.least.push(least); line.mean.push(mean); line.most.push(most);
    dirty = true;
  };
  const forget = () => {
    if (!asked.moves) return;
    const begin = Date.now() - (asked.to - asked.from);
    for (const line of lines.values()) {
      let old = 0;
      while (old < line.x.length && line.x[old] < begin) old += 1;
      if (old) for (const part of [line.x, line.least, line.mean, line.most]) part.splice(0, old);
    }
  };
  // A gap is where three usual distances pass without a value; what is drawn ends before it and begins after it.
  // What is usual changes when hosts are sampled faster, and back: the wider of what is usual before and after a place holds.
  const middle = (x, from, to) => {
    const distances = [];
    for (let i = Math.max(1, from); i < Math.min(x.length, to); i += 1) distances.push(x[i] - x[i - 1]);
    distances.sort((a, b) => a - b);
    return distances.length ? distances[distances.length >> 1] : 0;
  };
  const widest = (x, i) => 3 * Math.max(step * 1000, middle(x, i - 15, i) || middle(x, i, i + 1), middle(x, i + 1, i + 16));
  const gap = (x, i) => x[i] - x[i - 1] > 3000 * step && x[i] - x[i - 1] > widest(x, i);
  const table = (line, bands) => {
    const x = [], columns = bands ? [[], [], []] : [[]];
    const parts = bands ? [line.mean, line.least, line.most] : [line.mean];
    line.x.forEach((at, i) => {
      if (i && gap(line.x, i)) {
        x.push((line.x[i - 1] + step * 1000) / 1000);
        columns.forEach((column) => column.push(null));
      }
      x.push(at / 1000);
      columns.forEach((column, n) => column.push(parts[n][i]));
    });
    return [x, ...columns];
  };

  // -- drawing ---
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const plots = [];
  const matches = (pattern, item) => {
    const parts = [...pattern].map((one) => (one === "*" ? ".*" : one === "?" ? "." : one.replace(/[\\^$.+(){}[\]|]/, "\\$&")));
    return new RegExp(`^${parts.join("")}$`, "su").test(item);
  };
  // Limits of what is drawn: each value once, the nearest to the data first where they are many.
  const limitsFor = (own) => {
    const found = new Map();
    for (const limit of asked.limits) {
      if (own.some((line) => line.shown && limit.hosts.includes(line.host) && matches(limit.item, line.item))) {
        found.set(`${limit.level}\n${limit.value}\n${limit.item}`, limit);
      }
    }
    return [...found.values()].slice(0, LIMITS_MAX);
  };
  const limitText = (limit) => `${texts[limit.level]} ${written(limit.value)}${limit.item === "*" ? "" : ` (${limit.item})`}`;
  // A limit within the heights is a dashed line; one beyond them stands at the edge, with an arrow to where it is.
  const drawLimits = (plot, limits) => {
    const context = plot.ctx, dpr = devicePixelRatio, { left, top, width, height } = plot.bbox;
    const { min, max } = plot.scales.y;
    context.save();
    context.font = `${11 * dpr}px sans-serif`;
    context.textAlign = "left";
    context.lineJoin = "round";
    const edges = { up: left + 4 * dpr, down: left + 4 * dpr };
    const write = (text, x, y, tone) => {
      context.setLineDash([]);
      context.lineWidth = 3 * dpr;
      context.strokeStyle = style("--ez-surface");
      context.strokeText(text, x, y);
      context.fillStyle = tone;
      context.fillText(text, x, y);
    };
    for (const limit of limits) {
      const tone = style(limit.level === "critical" ? "--ez-down" : "--ez-warning");
      if (limit.value > max || limit.value < min) {
        const edge = limit.value > max ? "up" : "down";
        const text = `${edge === "up" ? "▲" : "▼"} ${limitText(limit)}`;
        write(text, edges[edge], edge === "up" ? top + 13 * dpr : top + height - 5 * dpr, tone);
        edges[edge] += context.measureText(text).width + 12 * dpr;
        continue;
      }
      const y = Math.round(plot.valToPos(limit.value, "y", true));
      context.strokeStyle = tone;
      context.lineWidth = dpr;
      context.setLineDash([6 * dpr, 4 * dpr]);
      context.beginPath();
      context.moveTo(left, y);
      context.lineTo(left + width, y);
      context.stroke();
      write(limitText(limit), left + 4 * dpr, y < 16 * dpr ? y + 13 * dpr : y - 5 * dpr, tone);
    }
    context.restore();
  };
  const colour = (line) => line.colour || COLOURS[line.number % COLOURS.length];
  const options = (own, place, bands, limits) => {
    const series = [{}], between = [];
    for (const line of own) {
      const about = { label: `${names.get(line.host)} ${line.item}`, spanGaps: false, points: { size: 4 } };
      series.push({ ...about, stroke: colour(line), width: 1.5, dash: DASHES[Math.floor(line.number / COLOURS.length) % DASHES.length], show: line.shown });
      if (bands(line)) {
        const at = series.length;
        for (let n = 0; n < 2; n += 1) series.push({ ...about, stroke: "transparent", width: 0, points: { show: false }, show: line.shown });
        between.push({ series: [at + 1, at], fill: `${colour(line)}33` });
      }
    }
    const axis = { stroke: style("--ez-quiet"), grid: { stroke: style("--bs-border-color"), width: 1 }, ticks: { stroke: style("--bs-border-color") } };
    return {
      width: Math.max(260, place.clientWidth - 18), height: asked.view === "each" ? 200 : 360, series, bands: between,
      legend: { show: false }, cursor: { sync: { key: "graphs" }, drag: { x: true, y: false, setScale: false } },
      scales: { x: { time: true, range: () => period().map((at) => at / 1000) }, y: { range: (_plot, low, high) => heights(low, high, limits) } },
      axes: [{ ...axis, values: (_plot, times) => times.map(clock) }, { ...axis, size: 74, values: (_plot, values) => values.map(written) }],
      hooks: {
        draw: [(plot) => drawLimits(plot, limits)],
        setSelect: [(plot) => {
          if (plot.select.width < 8) return;
          const from = Math.round(plot.posToVal(plot.select.left, "x") * 1000);
          const to = Math.round(plot.posToVal(plot.select.left + plot.select.width, "x") * 1000);
          location.assign(`${root.dataset.show}${root.dataset.show.includes("?") ? "&" : "?"}from=${from}&to=${to}`);
        }],
        setCursor: [(plot) => atPointer(plot.cursor.left >= 0 ? plot.posToVal(plot.cursor.left, "x") * 1000 : null)],
      },
    };
  };
  const period = () => (asked.moves ? [Date.now() - (asked.to - asked.from), Date.now()] : [asked.from, asked.to]);
  const heights = (low, high, limits) => {
    if (low === null || high === null) return [0, 1];
    let least = Math.min(0, low), most = high === least ? least + 1 : high + (high - least) * 0.08;
    const ratio = asked.unit === "ratio" && high <= 1, reach = 3 * (high - least);
    for (const { value } of limits) {
      const near = ratio && value >= 0 && value <= 1;
      if (value > most && (near || value - least <= reach)) most = value + (value - least) * 0.08;
      if (value < least && high - value <= reach) least = value - (high - value) * 0.08;
    }
    return [least, ratio ? Math.min(1, most) : most];
  };

  // -- all lines as one band, and those that are far from the others ---
  const everyone = { host: "", item: "", colour: style("--ez-accent"), shown: true, number: -1, x: [], least: [], mean: [], most: [] };
  let far = [];
  const gather = () => {
    const shown = [...lines.values()].filter((line) => line.shown && line.x.length);
    const width = shown.reduce((most, line) => Math.max(most, middle(line.x, line.x.length - 15, line.x.length)), step * 1000);
    const steps = new Map();
    let low = 0, high = 0;
    for (const line of shown) {
      let key = null, sum = 0, count = 0;
      const close = () => {
        if (count) { const one = steps.get(key); one.sum += sum / count; one.count += 1; }
        sum = count = 0;
      };
      line.x.forEach((at, i) => {
        const begin = Math.floor(at / width) * width;
        if (begin !== key) { close(); key = begin; }
        if (!steps.has(key)) steps.set(key, { least: Infinity, most: -Infinity, sum: 0, count: 0 });
        const one = steps.get(key);
        one.least = Math.min(one.least, line.least[i]);
        one.most = Math.max(one.most, line.most[i]);
        sum += line.mean[i];
        count += 1;
      });
      close();
    }
    for (const part of [everyone.x, everyone.least, everyone.mean, everyone.most]) part.length = 0;
    for (const key of [...steps.keys()].sort((a, b) => a - b)) {
      const one = steps.get(key);
      everyone.x.push(key); everyone.least.push(one.least); everyone.mean.push(one.sum / one.count); everyone.most.push(one.most);
      low = Math.min(low, one.least); high = Math.max(high, one.most);
    }
    // far: four times as far from the middle one as is usual, and so that one sees it
    const centre = (values) => values.sort((a, b) => a - b)[values.length >> 1] || 0;
    const means = new Map(shown.map((line) => [line, line.mean.reduce((sum, one) => sum + one, 0) / line.mean.length]));
    const mid = centre([...means.values()]);
    const off = (line) => Math.abs(means.get(line) - mid);
    const least = Math.max(4 * centre(shown.map(off)), 0.05 * (high - low));
    far = shown.length > 2 ? shown.filter((line) => off(line) > least).sort((a, b) => off(b) - off(a)).slice(0, FAR_MAX) : [];
    const named = far.map((line) => `${names.get(line.host)} ${line.item} (${written(means.get(line))})`.replace("  ", " "));
    say($("graph-far"), far.length ? `${texts.far}: ${named.join(", ")}` : texts.close);
  };
  const say = (place, text) => { if (place && place.textContent !== text) place.textContent = text; };

  let pattern = "";
  const build = () => {
    for (const plot of plots.splice(0)) plot.made.destroy();
    const holder = $("graph-plots");
    holder.replaceChildren();
    holder.classList.toggle("graph-one", asked.view !== "each");
    const all = [...lines.values()];
    let groups = [["", all, all]];
    if (asked.view === "band") groups = [["", all.length ? [everyone, ...far] : [], all]];
    else if (asked.view === "each") {
      groups = asked.hosts.map((host) => [host.name, all.filter((line) => line.host === host.id)]).map(([name, own]) => [name, own, own]);
    }
    for (const [title, own, about] of groups) {
      const place = document.createElement("div");
      place.className = "graph-plot";
      place.setAttribute("role", "img");
      place.setAttribute("aria-label", `${asked.field} ${title}`);
      if (title) {
        const head = document.createElement("h2");
        head.textContent = title;
        place.append(head);
      }
      holder.append(place);
      if (!own.length) {
        place.append(texts.none);
        continue;
      }
      const bands = (line) => line === everyone || (asked.view !== "band" && own.length <= BANDS_MAX);
      plots.push({ own, bands, place, made: new uPlot(options(own, place, bands, limitsFor(about)), data(own, bands), place) });
    }
  };
  const data = (own, bands) => uPlot.join(own.map((line) => table(line, bands(line))), own.map((line) => (bands(line) ? [0, 2, 2, 2] : [0, 2])));
  const draw = () => {
    if (asked.view === "band") gather();
    const now = [...lines.values()].map((line) => `${line.number}${line.shown}${far.includes(line)}`).join();
    if (now !== pattern) {
      pattern = now;
      build();
      rows();
    } else {
      for (const plot of plots) plot.made.setData(data(plot.own, plot.bands));
    }
    values();
  };
  setInterval(() => {
    if (document.hidden) return;
    if (!dirty && !(asked.moves && Date.now() - drawn > 1000)) return;
    dirty = false;
    drawn = Date.now();
    forget();
    draw();
  }, DRAW_MS);
  let drawn = 0;
  new ResizeObserver(() => {
    for (const plot of plots) plot.made.setSize({ width: Math.max(260, plot.place.clientWidth - 18), height: plot.made.height });
  }).observe($("graph-plots"));

  // -- the same as a table ---
  const rows = () => {
    $("graph-lines").replaceChildren(...[...lines.values()].map((line) => {
      const row = document.createElement("tr");
      const shown = document.createElement("td"), box = document.createElement("input"), swatch = document.createElement("span");
      box.type = "checkbox";
      box.className = "form-check-input";
      box.checked = line.shown;
      box.setAttribute("aria-label", `${texts.shown}: ${names.get(line.host)} ${line.item}`);
      box.addEventListener("change", () => { line.shown = box.checked; dirty = true; });
      swatch.className = "graph-swatch";
      if (asked.view !== "band" || far.includes(line)) swatch.style.backgroundColor = colour(line);
      shown.append(box, swatch);
      row.append(shown);
      for (const text of [names.get(line.host), line.item]) {
        const cell = document.createElement("td");
        cell.textContent = text;
        row.append(cell);
      }
      line.cells = [0, 1, 2, 3, 4].map(() => {
        const cell = document.createElement("td");
        cell.className = "num mono";
        row.append(cell);
        return cell;
      });
      line.cells[0].dataset.newest = "";
      return row;
    }));
  };
  const values = () => {
    for (const line of lines.values()) {
      if (!line.cells || !line.x.length) continue;
      const mean = line.mean.reduce((sum, one) => sum + one, 0) / line.mean.length;
      const found = [line.mean[line.mean.length - 1], undefined, line.least.reduce((a, b) => Math.min(a, b)), mean, line.most.reduce((a, b) => Math.max(a, b))];
      found.forEach((value, n) => { if (n !== 1) line.cells[n].textContent = written(value); });
      line.cells[0].dataset.newest = line.x[line.x.length - 1];
      line.cells[0].dataset.points = line.x.length;
    }
    say($("graph-note"), lines.size ? note : texts.none);
  };
  const atPointer = (at) => {
    for (const line of lines.values()) {
      if (!line.cells) continue;
      let value;
      if (at !== null) {
        let low = 0, high = line.x.length - 1;
        while (low < high) {
          const middle = (low + high + 1) >> 1;
          if (line.x[middle] <= at) low = middle; else high = middle - 1;
        }
        if (line.x.length && line.x[low] <= at && at - line.x[low] <= widest(line.x, low)) value = line.mean[low];
      }
      line.cells[1].textContent = written(value);
    }
  };

  // -- how it was ---
  let note = "";
  const read = async () => {
    const answer = await fetch(root.dataset.history, { headers: { Accept: "application/json" } });
    if (!answer.ok) throw new Error(String(answer.status));
    const found = await answer.json();
    for (const line of lines.values()) for (const part of [line.x, line.least, line.mean, line.most]) part.length = 0;
    step = found.step;
    note = [found.by_hour ? texts.hours : "", found.cut.length ? texts.cut : ""].filter(Boolean).join(" ");
    for (const line of found.lines) for (const point of line.points) add(line.host, line.item, ...point);
    dirty = true;
  };

  // -- how it goes on ---
  const state = (text, live) => {
    $("graph-state").textContent = text;
    $("graph-state").dataset.live = live ? "1" : "";
  };
  let wait = AGAIN_MS, heard = 0;
  const connect = () => {
    const socket = new WebSocket(asked.socket);
    socket.addEventListener("open", async () => {
      const long = !heard || Date.now() - heard > asked.kept;
      if (heard && long) await read().catch(() => {}); // if it fails, what is there stays
      // from a little before what is known: samples are in Kafka before they are in Elasticsearch; what comes twice is dropped
      const since = long ? Date.now() - asked.kept : heard - 5000;
      socket.send(JSON.stringify({ hosts: asked.hosts.map((host) => host.id), series: [{ dataset: asked.dataset, field: asked.field, item: asked.item }], since }));
    });
    socket.addEventListener("message", (event) => {
      const said = JSON.parse(event.data);
      wait = AGAIN_MS;
      heard = Date.now();
      state(texts.live, true);
      const points = said.points || [];
      points.sort((one, other) => one[3] - other[3]); // what is kept of several partitions
      for (const [host, , item, at, value] of points) add(host, item, at, value, value, value);
    });
    socket.addEventListener("close", (event) => {
      if (event.code === 4401) { state(texts.still, false); return; }
      state(texts.again, false);
      setTimeout(connect, wait);
      wait = Math.min(wait * 2, AGAIN_MOST_MS);
    });
  };
  read().then(() => {
    if (asked.moves) connect();
    else state(texts.past, false);
  }).catch(() => {
    $("graph-note").textContent = texts.failed;
    if (asked.moves) connect();
  });

  // -- steps of a second, as long as a command for it lasts ---
  const faster = $("graph-faster");
  if (faster) {
    const button = faster.querySelector("button"), said = faster.querySelector("span");
    const label = button.lastElementChild.textContent;
    let now = asked.faster, known = Date.now(), busy = false, wrong = "";
    const show = () => {
      const left = now.left - Math.round((Date.now() - known) / 1000);
      const runs = now.running && left > 0;
      const clocked = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
      const parts = [];
      if (runs) parts.push(texts.running.replace("{n}", now.running).replace("{all}", now.hosts).replace("{left}", clocked));
      if (now.waiting) parts.push(texts.waiting.replace("{n}", now.waiting));
      if (wrong) parts.push(wrong);
      say(said, parts.join(" · "));
      said.dataset.running = runs ? now.running : 0;
      say(button.lastElementChild, runs ? texts.once_more : label);
      button.disabled = busy || !now.hosts;
    };
    const ask = async (method) => {
      const answer = await fetch(root.dataset.faster, { method, headers: { Accept: "application/json", "X-CSRFToken": root.dataset.csrf } });
      const found = await answer.json();
      if (!answer.ok) throw new Error(found.error);
      now = found;
      known = Date.now();
    };
    button.addEventListener("click", async () => {
      busy = true;
      wrong = "";
      show();
      await ask("POST").catch((error) => { wrong = error.message; });
      busy = false;
      show();
    });
    setInterval(show, 1000);
    setInterval(() => { if (now.waiting && !document.hidden) ask("GET").catch(() => {}); }, 2000);
    show();
  }
})();
