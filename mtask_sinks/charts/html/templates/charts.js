"use strict";
// Draws the panels of a page from the data in the page. To change the picture, change `state` and draw again.
(() => {
  const data = JSON.parse(document.getElementById("chart-data").textContent);
  const panels = [...document.querySelectorAll(".panel")];
  // Cut the visible steps into this many parts; in each part, a curve keeps its ends and its extremes.
  const BUCKETS = 700;
  // A curve of at most this many points has a dot at each.
  const DOTTED = 30;
  // All panels share one range of steps; each zoomed panel has its own range of values.
  const state = { hidden: { run: new Set(), task: new Set(), phase: new Set() }, log: data.log, range: null, heights: {} };

  // Plotly interprets tags and entities in texts, and names may contain them.
  const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const readable = (value) =>
    Math.abs(value) >= 1e9 || (value !== 0 && Math.abs(value) < 1e-3)
      ? value.toExponential(4)
      : value.toLocaleString("en", { maximumSignificantDigits: 6 });

  // Return the indices of the points to draw: all, or in each part the first, the last, the lowest, the highest and the first gap.
  function places(curve, shown) {
    let seen = [...shown.keys()];
    if (state.range) {
      const [low, high] = state.range;
      // Keep one more on each side, so that the line crosses the edge of the panel at the right height.
      seen = seen.filter((i) => curve.steps[Math.min(i + 1, shown.length - 1)] >= low && curve.steps[Math.max(i - 1, 0)] <= high);
    }
    if (seen.length <= 4 * BUCKETS) return seen;
    const kept = [];
    for (let part = 0; part < BUCKETS; part++) {
      const from = Math.floor((part * seen.length) / BUCKETS);
      const to = Math.floor(((part + 1) * seen.length) / BUCKETS);
      const chosen = new Set([seen[from], seen[to - 1]]);
      let lowest = -1, highest = -1, gap = -1;
      for (let at = from; at < to; at++) {
        const i = seen[at], value = shown[i];
        if (value === null) gap = gap < 0 ? i : gap;
        else {
          if (lowest < 0 || value < shown[lowest]) lowest = i;
          if (highest < 0 || value > shown[highest]) highest = i;
        }
      }
      for (const i of [lowest, highest, gap]) if (i >= 0) chosen.add(i);
      kept.push(...[...chosen].sort((a, b) => a - b));
    }
    return kept;
  }

  function hoverText(curve, i) {
    const lines = [`<b>${escaped(curve.run)}</b>`, `${escaped(curve.key)}, ${escaped(curve.phase)}`];
    const epoch = curve.epochs && curve.epochs[i];
    lines.push(`step ${curve.steps[i].toLocaleString("en")}` + (epoch == null ? "" : `, epoch ${readable(epoch)}`));
    if (curve.values[i] !== null) lines.push(`value ${readable(curve.values[i])}`);
    if (curve.smoothed && curve.smoothed[i] !== null) lines.push(`smoothed ${readable(curve.smoothed[i])}`);
    if (curve.counts[i]) lines.push(`reports ${curve.counts[i].toLocaleString("en")}`);
    return lines.join("<br>");
  }

  function traces(curve) {
    const line = { color: curve.colour, dash: curve.dash, width: 1.8 };
    const drawable = (values) => (state.log ? values.map((v) => (v > 0 ? v : null)) : values);
    const shown = drawable(curve.smoothed || curve.values);
    const kept = places(curve, shown);
    const y = kept.map((i) => shown[i]);
    const alone = (v, at) => v !== null && (y[at - 1] ?? null) === null && (y[at + 1] ?? null) === null;
    const sizes = y.map((v, at) => (kept.length <= DOTTED || alone(v, at) ? 5 : 0));
    const drawn = {
      type: "scatter", mode: "lines+markers", name: escaped(curve.label), connectgaps: false,
      x: kept.map((i) => curve.steps[i]), y, line, marker: { color: curve.colour, size: sizes, opacity: 1, line: { width: 0 } },
      hoverinfo: "text", hovertext: kept.map((i) => hoverText(curve, i)), showlegend: data.by === "both",
    };
    if (!curve.smoothed) return [drawn];
    const values = drawable(curve.values);
    const behind = places(curve, values);
    const raw = {
      type: "scatter", mode: "lines", x: behind.map((i) => curve.steps[i]), y: behind.map((i) => values[i]),
      line: { color: curve.colour, width: 1 }, opacity: 0.25, hoverinfo: "skip", showlegend: false, connectgaps: false,
    };
    return [raw, drawn];
  }

  function layout(at) {
    const seen = (range) => (range ? { range } : { autorange: true });
    const axis = { gridcolor: colour("grid"), linecolor: colour("line"), zeroline: false, tickfont: { size: 11 } };
    return {
      margin: { l: 54, r: 10, t: 26, b: 36 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: colour("ink"), family: "inherit" }, hovermode: "closest", autosize: true,
      // On a touch screen, a finger on a chart scrolls the page.
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
      hoverlabel: { bgcolor: colour("soft"), bordercolor: colour("line"), font: { color: colour("ink") }, align: "left" },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("faint"), activecolor: colour("ink") },
      legend: { orientation: "h", y: -0.18, font: { size: 11 } },
      xaxis: { ...axis, title: { text: "step", font: { size: 11 }, standoff: 4 }, ...seen(state.range) },
      yaxis: { ...axis, type: state.log ? "log" : "linear", ...seen(state.heights[at]), nticks: 6, exponentformat: "power" },
    };
  }

  function draw(at) {
    const isShown = (curve) => ["run", "task", "phase"].every((of) => !state.hidden[of].has(curve[of]));
    const curves = data.panels[at].curves.filter(isShown);
    panels[at].hidden = !curves.length;
    if (!curves.length) return;
    const plot = panels[at].querySelector(".plot");
    const buttons = [["zoom2d", "pan2d", "autoScale2d", "toImage"]];
    const config = { responsive: true, doubleClick: "autosize", displaylogo: false, modeBarButtons: buttons };
    Plotly.react(plot, curves.flatMap(traces), layout(at), config);
    if (!plot.dataset.follows) {
      plot.dataset.follows = "yes";
      plot.on("plotly_relayout", (change) => zoomed(at, change));
    }
  }

  const drawAll = () => panels.forEach((_, at) => draw(at));

  // Return the new range of an axis: null for the whole axis, undefined if it does not change.
  function zoomedTo(change, axis) {
    if (change[`${axis}.autorange`]) return null;
    return change[`${axis}.range`] ?? (`${axis}.range[0]` in change ? [change[`${axis}.range[0]`], change[`${axis}.range[1]`]] : undefined);
  }

  function zoomed(at, change) {
    const [steps, values] = [zoomedTo(change, "xaxis"), zoomedTo(change, "yaxis")];
    if (steps !== undefined) state.range = steps;
    if (steps === null) state.heights = {};
    else if (values !== undefined) state.heights[at] = values;
    if (steps !== undefined || values !== undefined) drawAll();
  }

  function sample(curve) {
    const dashes = { solid: "", dash: "6 4", dot: "2 3", dashdot: "6 3 2 3" };
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    for (const [name, value] of [["width", 26], ["height", 10], ["aria-hidden", true]]) svg.setAttribute(name, value);
    const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
    const place = { x1: 1, y1: 5, x2: 25, y2: 5, stroke: curve.colour, "stroke-width": 3, "stroke-dasharray": dashes[curve.dash] };
    for (const [name, value] of Object.entries(place)) line.setAttribute(name, value);
    svg.append(line);
    return svg;
  }

  // Add one box per name, with a sample line if colour or dashes show the name.
  function addBoxes(of, names) {
    const every = data.panels.flatMap((panel) => panel.curves);
    for (const name of names) {
      const label = document.createElement("label");
      const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: true, value: name });
      box.addEventListener("change", () => {
        state.hidden[of][box.checked ? "delete" : "add"](name);
        drawAll();
      });
      label.append(box);
      const curve = every.find((each) => each[of] === name);
      if (data.by === of) label.append(sample({ ...curve, dash: of === "phase" ? curve.dash : "solid" }));
      else if (of === "phase") label.append(sample({ dash: curve.dash, colour: "currentColor" }));
      label.append(name || "no task");
      document.querySelector(`fieldset[data-of=${of}]`).append(label);
    }
  }

  addBoxes("run", data.runs);
  addBoxes("task", data.tasks);
  addBoxes("phase", data.phases);
  const log = document.getElementById("log");
  log.checked = state.log;
  log.addEventListener("change", () => { state.log = log.checked; state.heights = {}; drawAll(); });
  // Without this, a reload keeps boxes unticked, but shows their curves.
  document.getElementById("controls").setAttribute("autocomplete", "off");
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  for (const [event, isPaper] of [["beforeprint", true], ["afterprint", false]]) {
    addEventListener(event, () => {
      document.documentElement.classList.toggle("paper", isPaper);
      drawAll();
      for (const panel of panels) if (!panel.hidden) Plotly.Plots.resize(panel.querySelector(".plot"));
    });
  }
  document.getElementById("panels").classList.toggle("with-legends", data.by === "both");
  drawAll();
})();
