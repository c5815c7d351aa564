"use strict";
// Draws the figures from their descriptions, sorts and filters tables, and opens the
// record behind any number. Everything it needs is in this file; it fetches nothing.
(() => {
  const root = document.documentElement;
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const style = (name) => getComputedStyle(root).getPropertyValue(name).trim();

  // ---- theme
  const wanted = matchMedia("(prefers-color-scheme: dark)");
  const setTheme = (theme) => { root.dataset.theme = theme; };
  setTheme(wanted.matches ? "dark" : "light");
  wanted.addEventListener("change", (event) => { setTheme(event.matches ? "dark" : "light"); drawAll(); });
  document.getElementById("theme").addEventListener("click", () => {
    setTheme(root.dataset.theme === "dark" ? "light" : "dark");
    drawAll();
  });

  // ---- figures: "@0" is colour 0 of the theme, "@0/0.2" the same at 20 percent
  const mix = (hex, alpha) => {
    const n = parseInt(hex.slice(1), 16);
    return `rgba(${n >> 16}, ${(n >> 8) & 255}, ${n & 255}, ${alpha})`;
  };
  const colour = (name) => {
    const [key, alpha] = name.slice(1).split("/");
    const hex = style(/^\d+$/.test(key) ? `--c${key}` : `--${key}`);
    return alpha ? mix(hex, alpha) : hex;
  };
  const resolve = (value) => {
    if (typeof value === "string") return /^@(\d+|[a-z]+)(\/|$)/.test(value) ? colour(value) : value;
    if (Array.isArray(value)) return value.map(resolve);
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, k === "text" && typeof v !== "object" ? v : resolve(v)]));
    }
    return value;
  };
  const axis = (given) => ({
    gridcolor: style("--line"), zerolinecolor: style("--line"), linecolor: style("--line"),
    tickcolor: style("--line"), ticks: "outside", ticklen: 4, automargin: true, ...given,
  });
  const layoutOf = (given) => {
    const layout = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size: 12.5, color: style("--soft") },
      margin: { l: 62, r: 34, t: 8, b: 46 }, modebar: { orientation: "v", bgcolor: "rgba(0,0,0,0)", color: style("--line"), activecolor: style("--accent") }, hovermode: "closest", dragmode: "zoom",
      legend: { orientation: "h", y: 1.0, yanchor: "bottom", x: 0, font: { size: 12 } },
      hoverlabel: { bgcolor: style("--card"), bordercolor: style("--line"), font: { color: style("--ink"), size: 12.5 }, align: "left" },
      ...given,
    };
    for (const name of ["xaxis", "yaxis", "yaxis2"]) if (given[name]) layout[name] = axis(given[name]);
    return layout;
  };
  const options = { responsive: true, displaylogo: false, modeBarButtons: [["toImage", "zoom2d", "pan2d", "autoScale2d", "resetScale2d"]] };
  const draw = (element, figure) => {
    const traces = figure.data.map(resolve);
    return Plotly.react(element, traces, layoutOf(resolve(figure.layout)), options).then(() => {
      if (element.dataset.drawn) return;
      element.dataset.drawn = "yes";
      element.on("plotly_click", (event) => {
        const source = event.points[0].customdata;
        if (source) open(source, "");
      });
    });
  };
  const drawAll = async () => {
    let drawn = 0;
    for (const element of document.querySelectorAll("[data-figure]")) {
      await draw(element, data.figures[element.dataset.figure]);
      drawn += 1;
    }
    if (explorer) drawn += await explorer();
    root.dataset.drawn = String(drawn);
  };

  // ---- any two quantities of the records against each other
  let explorer = null;
  const plot = document.getElementById("explorer");
  if (plot) {
    const pick = (id) => document.getElementById(id);
    const fill = (select, names, chosen) => {
      for (const name of names) select.add(new Option(data.explore.labels[name] || name, name, false, name === chosen));
      select.addEventListener("change", () => explorer());
    };
    fill(pick("explore-x"), data.explore.axes, data.explore.axes[0]);
    fill(pick("explore-y"), data.explore.metrics, data.explore.first);
    for (const id of ["explore-logx", "explore-logy"]) pick(id).addEventListener("change", () => explorer());
    explorer = async () => {
      const [x, y] = [pick("explore-x").value, pick("explore-y").value];
      const groups = new Map();
      for (const row of data.explore.rows) {
        if (!(y in row.metrics) || row.axes[x] == null) continue;
        if (!groups.has(row.family)) groups.set(row.family, []);
        groups.get(row.family).push(row);
      }
      const symbols = ["circle", "square", "diamond", "triangle-up", "cross", "x"];
      const traces = [...groups.entries()].sort().map(([family, rows], i) => ({
        type: "scatter", mode: "markers", name: family, showlegend: true,
        x: rows.map((r) => r.axes[x]), y: rows.map((r) => r.metrics[y][0]),
        customdata: rows.map((r) => r.source), text: rows.map((r) => r.note),
        error_y: { type: "data", symmetric: false, color: `@${i % 6}/0.5`, thickness: 1, width: 2,
          array: rows.map((r) => r.metrics[y][2] - r.metrics[y][0]),
          arrayminus: rows.map((r) => r.metrics[y][0] - r.metrics[y][1]) },
        marker: { color: `@${i % 6}`, symbol: symbols[i % 6], size: 8, line: { color: "@card", width: 1 } },
        hovertemplate: "<b>%{y:.5g}</b> at %{x:.4s}<br>%{text}<extra></extra>",
      }));
      const title = (name) => ({ text: data.explore.labels[name] || name });
      await draw(plot, { data: traces, layout: {
        xaxis: { title: title(x), type: pick("explore-logx").checked ? "log" : "linear", exponentformat: "SI" },
        yaxis: { title: title(y), type: pick("explore-logy").checked ? "log" : "linear" },
      } });
      return 1;
    };
  }

  // ---- tables
  const keyOf = (cell) => (cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value));
  for (const table of document.querySelectorAll("table.sorted")) {
    table.querySelectorAll("thead th").forEach((head, column) => {
      head.classList.add("sortable");
      head.tabIndex = 0;
      const sort = () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const rows = [...table.tBodies[0].rows];
        rows.sort((a, b) => {
          const [left, right] = [keyOf(a.cells[column]), keyOf(b.cells[column])];
          const order = typeof left === "number" && typeof right === "number" ? left - right : String(left).localeCompare(String(right));
          return up ? order : -order;
        });
        table.tBodies[0].append(...rows);
      };
      head.addEventListener("click", sort);
      head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
    });
  }
  for (const box of document.querySelectorAll("input[data-filter]")) {
    box.addEventListener("input", () => {
      const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of document.getElementById(box.dataset.filter).tBodies[0].rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      }
    });
  }

  // ---- the record behind a number
  const drawer = document.getElementById("drawer");
  const body = document.getElementById("drawer-body");
  const add = (tag, text) => body.appendChild(Object.assign(document.createElement(tag), { textContent: text }));
  const open = (sources, pointer) => {
    body.replaceChildren();
    for (const source of sources.split(" ")) {
      add("h3", source);
      if (pointer) add("p", `field ${pointer}`);
      const [file, line] = source.split(/:(?=\d+$)/);
      const record = file === "records.jsonl" ? data.records[line] : data.files[source];
      add("pre", record === undefined ? `Open ${source} in the study's folder.` : JSON.stringify(record, null, 2));
    }
    drawer.classList.add("open");
    document.getElementById("drawer-close").focus();
  };
  const close = () => drawer.classList.remove("open");
  document.getElementById("drawer-close").addEventListener("click", close);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") close(); });
  document.addEventListener("click", (event) => {
    const cell = event.target.closest("[data-source]");
    if (cell) open(cell.dataset.source, cell.dataset.pointer || "");
  });

  drawAll().catch((error) => { root.dataset.failed = String(error); });
})();
