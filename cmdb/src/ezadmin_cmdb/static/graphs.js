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
  const KEPT_MS = 180000; // how long the gateway keeps samples

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
  const usual = (line) => {
    const distances = [];
    for (let i = Math.max(1, line.x.length - 30); i < line.x.length; i += 1) distances.push(line.x[i] - line.x[i - 1]);
    distances.sort((a, b) => a - b);
    return distances.length ? distances[distances.length >> 1] : step * 1000;
  };
  const table = (line, bands) => {
    const widest = 3 * Math.max(step * 1000, usual(line));
    const x = [], columns = bands ? [[], [], []] : [[]];
    const parts = bands ? [line.mean, line.least, line.most] : [line.mean];
    line.x.forEach((at, i) => {
      if (i && at - line.x[i - 1] > widest) {
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
  const limitsOf = (plot) => {
    for (const limit of asked.limits) {
      const y = Math.round(plot.valToPos(limit.value, "y", true));
      if (y < plot.bbox.top || y > plot.bbox.top + plot.bbox.height) continue;
      const context = plot.ctx;
      context.save();
      context.strokeStyle = context.fillStyle = style(limit.level === "critical" ? "--ez-down" : "--ez-warning");
      context.setLineDash([6, 4]);
      context.beginPath();
      context.moveTo(plot.bbox.left, y);
      context.lineTo(plot.bbox.left + plot.bbox.width, y);
      context.stroke();
      context.font = `${11 * devicePixelRatio}px sans-serif`;
      context.fillText(`${texts[limit.level]} ${written(limit.value)}`, plot.bbox.left + 4, y - 4);
      context.restore();
    }
  };
  const colour = (line) => COLOURS[line.number % COLOURS.length];
  const options = (own, place, bands) => {
    const series = [{}], between = [];
    for (const line of own) {
      const about = { label: `${names.get(line.host)} ${line.item}`, spanGaps: false, points: { size: 4 } };
      series.push({ ...about, stroke: colour(line), width: 1.5, dash: DASHES[Math.floor(line.number / COLOURS.length) % DASHES.length], show: line.shown });
      if (bands) {
        const at = series.length;
        for (let n = 0; n < 2; n += 1) series.push({ ...about, stroke: "transparent", width: 0, points: { show: false }, show: line.shown });
        between.push({ series: [at + 1, at], fill: `${colour(line)}33` });
      }
    }
    const axis = { stroke: style("--ez-quiet"), grid: { stroke: style("--bs-border-color"), width: 1 }, ticks: { stroke: style("--bs-border-color") } };
    return {
      width: Math.max(260, place.clientWidth - 18), height: asked.each ? 200 : 360, series, bands: between,
      legend: { show: false }, cursor: { sync: { key: "graphs" }, drag: { x: true, y: false, setScale: false } },
      scales: { x: { time: true, range: () => period().map((at) => at / 1000) }, y: { range: (_plot, low, high) => heights(low, high) } },
      axes: [{ ...axis, values: (_plot, times) => times.map(clock) }, { ...axis, size: 74, values: (_plot, values) => values.map(written) }],
      hooks: {
        draw: [limitsOf],
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
  const heights = (low, high) => {
    if (low === null || high === null) return [0, 1];
    const least = Math.min(0, low);
    const most = high === least ? least + 1 : high + (high - least) * 0.08;
    return [least, asked.unit === "ratio" && high <= 1 ? Math.min(1, most) : most];
  };
  let pattern = "";
  const build = () => {
    for (const plot of plots.splice(0)) plot.made.destroy();
    const holder = $("graph-plots");
    holder.replaceChildren();
    holder.classList.toggle("graph-one", !asked.each);
    const all = [...lines.values()];
    const groups = asked.each ? asked.hosts.map((host) => [host.name, all.filter((line) => line.host === host.id)]) : [["", all]];
    for (const [title, own] of groups) {
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
      const bands = own.length <= BANDS_MAX;
      plots.push({ own, bands, place, made: new uPlot(options(own, place, bands), data(own, bands), place) });
    }
  };
  const data = (own, bands) => uPlot.join(own.map((line) => table(line, bands)), own.map(() => (bands ? [0, 2, 2, 2] : [0, 2])));
  const draw = () => {
    const now = [...lines.values()].map((line) => `${line.number}${line.shown}`).join();
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
      swatch.style.backgroundColor = colour(line);
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
    $("graph-note").textContent = lines.size ? note : texts.none;
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
        if (line.x.length && line.x[low] <= at && at - line.x[low] <= 3 * Math.max(step * 1000, usual(line))) value = line.mean[low];
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
    step = found.step;
    note = found.cut.length ? texts.cut : "";
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
    socket.addEventListener("open", () => {
      // from a little before what is known: samples are in Kafka before they are in Elasticsearch; what comes twice is dropped
      const since = heard ? heard - 5000 : Date.now() - KEPT_MS;
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
      setTimeout(async () => {
        if (heard && Date.now() - heard > KEPT_MS) {
          lines.clear();
          await read().catch(() => {});
        }
        connect();
      }, wait);
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
})();
