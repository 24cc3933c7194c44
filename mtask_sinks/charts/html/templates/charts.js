"use strict";
// Draws the panels of a page from the data in the page. To change the picture, change `state` and call `refresh`.
(() => {
  const data = JSON.parse(document.getElementById("chart-data").textContent);
  const root = document.documentElement;
  const panels = [...document.querySelectorAll(".panel")];
  const groups = [...document.querySelectorAll("details.group")];
  // Where the panels are; while the user searches, the found ones are side by side at the top instead.
  const homes = panels.map((panel) => panel.parentElement);
  const found = document.querySelector("#found .panels");
  const controls = document.getElementById("controls");
  const field = (name) => controls.querySelector(`[name=${name}]`);
  // A curve of at most this many points has a dot at each.
  const DOTTED = 30;
  // All panels share one range of x; each zoomed panel has its own range of values.
  const state = {
    hidden: { run: new Set(), task: new Set(), phase: new Set() },
    words: [], weight: data.weight, x: data.x, scale: "", colour: "task", range: null, heights: new Map(),
  };
  // Panels in or near the view; the version that each panel shows; the curves that it shows.
  const near = new Set();
  const drawn = new Map();
  const chosen = panels.map(() => []);
  let version = 0, isWaiting = false;

  // Plotly interprets tags and entities in texts, and names may contain them.
  const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const colour = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  const readable = (value) =>
    value !== 0 && (Math.abs(value) >= 1e9 || Math.abs(value) < 1e-3)
      ? value.toExponential(3)
      : value.toLocaleString("en", Math.abs(value) >= 1000 ? { maximumFractionDigits: 0 } : { maximumSignificantDigits: 4 });

  // ---- Values

  // The place of every point of a curve on the axis.
  const axes = new Map();
  function xOf(curve, name = state.x) {
    const key = `${curve.place} ${name}`;
    if (!axes.has(key)) {
      const unit = data.axes.find((axis) => axis.name === name).unit;
      const found = data.places[curve.place][name];
      axes.set(key, unit === 1 ? found : found.map((x) => (x === null ? null : x / unit)));
    }
    return axes.get(key);
  }

  // As in TensorBoard: a moving average with a correction for its beginning, which skips values that are not finite.
  function smooth(values, weight) {
    let total = 0, norm = 0;
    return values.map((value) => {
      if (value === null) return null;
      total = weight * total + (1 - weight) * value;
      norm = weight * norm + (1 - weight);
      return total / norm;
    });
  }

  function scaled(curve, values, scale) {
    if (scale === "log") return values.map((value) => (value !== null && value > 0 ? value : null));
    if (scale !== "relative") return values;
    const first = curve.values.find((value) => value !== null);
    return values.map((value) => (value !== null && first ? value / first : null));
  }

  const scaleOf = (panel) => (panel.fixed || !state.scale ? panel.scale : state.scale);

  // The values of a curve as its panel shows them: the raw ones, and those to look at.
  function valuesOf(curve, scale) {
    const key = `${scale} ${state.weight}`;
    if (curve.key_ !== key) {
      const raw = scaled(curve, curve.values, scale);
      curve.shown_ = { raw, front: state.weight ? scaled(curve, smooth(curve.values, state.weight), scale) : raw };
      curve.key_ = key;
    }
    return curve.shown_;
  }

  // Return the indices of the points to draw: all, or in each part the first, the last, the lowest, the highest and the first gap.
  function places(x, shown, parts) {
    let from = 0, to = shown.length;
    if (state.range) {
      // Keep one more on each side, so that the line crosses the edge of the panel at the right height.
      while (from + 1 < to && x[from + 1] < state.range[0]) from++;
      while (to - 2 >= from && x[to - 2] > state.range[1]) to--;
    }
    const seen = to - from;
    if (seen <= 4 * parts) return Array.from({ length: seen }, (_, i) => from + i);
    const kept = [];
    for (let part = 0; part < parts; part++) {
      const first = from + Math.floor((part * seen) / parts);
      const last = from + Math.floor(((part + 1) * seen) / parts) - 1;
      let lowest = -1, highest = -1, gap = -1;
      for (let i = first; i <= last; i++) {
        const value = shown[i];
        if (value === null) gap = gap < 0 ? i : gap;
        else {
          if (lowest < 0 || value < shown[lowest]) lowest = i;
          if (highest < 0 || value > shown[highest]) highest = i;
        }
      }
      const some = new Set([first, last, lowest, highest, gap]);
      some.delete(-1);
      kept.push(...[...some].sort((a, b) => a - b));
    }
    return kept;
  }

  // ---- What Plotly draws

  const runs = data.legend.filter((row) => row.of === "run").map((row) => row.name);
  const colourOfRun = (run) => data.colours[runs.indexOf(run) % data.colours.length];

  // The look of a curve in its panel. A panel with several tasks always shows them by their colours.
  function lookOf(panel, curve) {
    if (state.colour !== "run" || panel.kind !== "curves" || panel.curves.some((each) => each.task !== curve.task)) return curve;
    return { ...curve, colour: colourOfRun(curve.run), marker: null };
  }

  function lines(curve, x, shown, look, parts) {
    const kept = places(x, shown, parts);
    const y = kept.map((i) => shown[i]);
    const place = kept.map((i) => x[i]);
    const line = { color: curve.colour, dash: look.dash ?? curve.dash, width: look.width };
    const base = { type: "scatter", x: place, y, hoverinfo: "skip", showlegend: false, opacity: look.opacity, connectgaps: false };
    const traces = [{ ...base, mode: "lines", line, ...look.more }];
    if (look.isBehind) return traces;
    // Dots where no line shows a value; on short curves everywhere; markers of the task here and there.
    const alone = (i) => y[i] !== null && (y[i - 1] ?? null) === null && (y[i + 1] ?? null) === null;
    const every = curve.marker ? Math.max(Math.floor(kept.length / 8), 1) : 1;
    const dots = kept.map((_, i) => i).filter((i) => alone(i) || (kept.length <= DOTTED && !look.plain) || (curve.marker && i % every === 0));
    if (dots.length) {
      const marker = { color: curve.colour, size: curve.marker ? 7 : look.dot ?? 3 + look.width / 2, symbol: curve.marker ?? "circle" };
      traces.push({ ...base, mode: "markers", x: dots.map((i) => place[i]), y: dots.map((i) => y[i]), marker });
    }
    return traces;
  }

  const drawings = {
    curves(panel, curves, parts) {
      return curves.flatMap((curve) => {
        const { raw, front } = valuesOf(curve, scaleOf(panel)), look = lookOf(panel, curve);
        const traces = lines(look, xOf(curve), front, look, parts);
        if (state.weight) traces.unshift(...lines(look, xOf(curve), raw, { width: 1, dash: "solid", opacity: 0.25, isBehind: true }, parts));
        return traces.map((trace) => ({ ...trace, owner: curve }));
      });
    },
    share(panel, curves, parts) {
      return curves.flatMap((curve) => {
        const more = { stackgroup: "all", fillcolor: curve.colour };
        // A window whose loss is not finite has no shares, of any task.
        const at = curve.values.flatMap((value, i) => (value === null ? [] : [i])), x = xOf(curve);
        return lines(curve, at.map((i) => x[i]), at.map((i) => curve.values[i]), { width: 0.5, dash: "solid", opacity: 1, isBehind: true, more }, Infinity)
          .map((trace) => ({ ...trace, owner: curve }));
      });
    },
    timeline(panel, curves, parts) {
      const rows = rowsOf(curves), phases = [...new Set(curves.map((curve) => curve.phase))];
      return curves.flatMap((curve) => {
        const shift = (phases.length - 1) / 2 - phases.indexOf(curve.phase);
        const y = rows.length - 1 - rows.indexOf(curve.task) + (shift * 0.7) / phases.length;
        const at = curve.values.map((value) => (value === null ? null : y));
        const isFew = at.length <= DOTTED;
        return lines(curve, xOf(curve), at, { width: isFew ? 1 : 4, dash: "solid", opacity: 1, plain: !isFew, dot: isFew ? 6 : 4 }, parts);
      });
    },
    gains(panel, curves, parts, plot) {
      const { letters } = roomOf(curves, plot);
      return curves.map((curve, i) => ({
        type: "bar", orientation: "h", y: [curves.length - 1 - i], x: [curve.values[0]], width: 0.7, showlegend: false,
        marker: { color: curve.colour, opacity: curve.opacity }, hoverinfo: "skip", textposition: "outside", cliponaxis: false, textfont: { size: 11 },
        text: [escaped(shortened(curve.run, letters - 1 - gainText(curve).length)) + gainText(curve)],
      }));
    },
  };
  const rowsOf = (curves) => [...new Set(curves.map((curve) => curve.task))];

  // Pixels that panels with rows need, so that the names beside the rows, and the lines of phases, do not overlap.
  const heightOfRows = {
    gains: (curves) => Math.max(70 + 24 * curves.length, 160),
    timeline: (curves) => Math.max(60 + Math.max(16, 6 * new Set(curves.map((curve) => curve.phase)).size) * rowsOf(curves).length, 260),
  };

  // Width of a letter. The names of the rows have at most a quarter of the width; the controls show the whole names.
  const LETTER = 6.6;
  const rowName = (name, plot) => shortened(name || "no task", Math.floor(plot.clientWidth / 4 / LETTER));

  // The mark keeps the sign in front of the number, also after a name that is written from right to left.
  const gainText = ({ values: [value] }) => `\u200e  ${value > 0 ? "+" : ""}${(100 * value).toFixed(1)} %`;

  // How many letters a label beside a bar has, and the part of the width that it takes. The bars keep a tenth of the width.
  function roomOf(curves, plot) {
    const longest = (texts) => Math.max(...texts.map((text) => text.length));
    const sides = new Set(curves.map((curve) => curve.values[0] < 0)).size;
    const width = Math.max(plot.clientWidth - Math.max(54, LETTER * longest(rowsOf(curves).map((name) => rowName(name, plot))) + 8) - 12, 1);
    const letters = Math.min(longest(curves.map((curve) => curve.run + gainText(curve))) + 1, Math.floor((0.9 * width) / sides / LETTER));
    return { letters, part: (LETTER * letters) / width, sides };
  }

  // Names of runs often differ at their ends, so the middle is left out.
  function shortened(name, letters) {
    if (name.length <= Math.max(letters, 3)) return name;
    const end = Math.max(Math.floor((letters - 1) / 2), 1);
    return `${name.slice(0, end)}…${name.slice(-end)}`;
  }

  function layout(at, panel, curves) {
    const axis = { gridcolor: colour("grid"), linecolor: colour("line"), zeroline: false, tickfont: { size: 11 }, fixedrange: false };
    const scale = scaleOf(panel), heights = state.heights.get(at), plot = panels[at].querySelector(".plot");
    const x = { ...axis, title: { text: escaped(data.axes.find((each) => each.name === state.x).title), font: { size: 11 }, standoff: 4 }, range: state.range ?? extent() };
    const y = { ...axis, type: scale === "log" ? "log" : "linear", nticks: 6, exponentformat: "power", minexponent: 6, separatethousands: true, automargin: true, ...(heights ? { range: heights } : { autorange: true }) };
    const margin = { l: 54, r: 12, t: 10, b: 36 };
    if (panel.kind === "share") Object.assign(y, { range: [0, 1], autorange: false, tickformat: ".0%" });
    if (panel.kind === "timeline") {
      const rows = rowsOf(curves).reverse();
      Object.assign(y, { range: [-0.6, rows.length - 0.4], autorange: false, fixedrange: true, tickvals: rows.map((_, i) => i), ticktext: rows.map((name) => escaped(rowName(name, plot))), gridcolor: "rgba(0,0,0,0)", automargin: true });
    }
    if (panel.kind === "gains") {
      const rows = rowsOf(curves), values = curves.map((curve) => curve.values[0]);
      const middle = (task) => {
        const own = curves.flatMap((curve, i) => (curve.task === task ? [curves.length - 1 - i] : []));
        return own.reduce((a, b) => a + b) / own.length;
      };
      Object.assign(y, { range: [-0.7, curves.length - 0.3], autorange: false, fixedrange: true, tickvals: rows.map(middle), ticktext: rows.map((name) => escaped(rowName(name, plot))), gridcolor: "rgba(0,0,0,0)", automargin: true });
      const [low, high] = [Math.min(...values, 0), Math.max(...values, 0)];
      const { part, sides } = roomOf(curves, plot);
      const room = (high - low || 0.01) * (part / (1 - sides * part));
      Object.assign(x, { range: [low - (low < 0 ? room : room / 20), high + (high > 0 || low === high ? room : room / 20)], title: { text: "better than the first run by", font: { size: 11 }, standoff: 4 }, tickformat: "+.2~%", zeroline: true, zerolinecolor: colour("faint"), nticks: 5, fixedrange: true });
    }
    // The steps of alerts.
    const marks = state.x === "step" && panel.kind === "curves" ? panel.marks ?? [] : [];
    const shapes = marks.map((mark) => ({ type: "line", xref: "x", yref: "paper", x0: mark.step, x1: mark.step, y0: 0, y1: 1, line: { color: "#c4321f", width: 1, dash: "dot" } }));
    return {
      shapes, margin, xaxis: x, yaxis: y, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true, hovermode: false,
      font: { color: colour("ink"), family: getComputedStyle(document.body).fontFamily },
      // On a touch screen, a finger on a chart scrolls the page.
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("faint"), activecolor: colour("ink") },
    };
  }

  // The range of x over all curves that are shown, so that all panels have the same.
  let known = { version: -1 };
  function extent() {
    if (known.version === version) return known.range;
    let low = Infinity, high = -Infinity;
    for (const place of new Set(chosen.flat().map((curve) => curve.place))) {
      for (const x of xOf({ place })) if (x !== null) [low, high] = [Math.min(low, x), Math.max(high, x)];
    }
    const room = (high - low) * 0.02 || 1;
    known = { version, range: low > high ? [0, 1] : [low - room, high + room] };
    return known.range;
  }

  function draw(at) {
    const plot = panels[at].querySelector(".plot"), panel = data.panels[at];
    hideTip();
    drawn.set(at, version);
    if (panel.kind in heightOfRows) {
      const height = heightOfRows[panel.kind](chosen[at]);
      plot.style.height = `${height}px`;
      panels[at].style.gridRow = height > 400 ? "span 2" : "";  // beside two other panels, not beside an empty place
    }
    // Three pixels per part: a curve then has as many points as one can tell apart.
    const traces = drawings[panel.kind](panel, chosen[at], Math.max(Math.round(plot.clientWidth / 3), 100), plot);
    const buttons = [["zoom2d", "pan2d", "autoScale2d", "toImage"]];
    const config = { responsive: true, doubleClick: "autosize", displaylogo: false, displayModeBar: "hover", modeBarButtons: buttons };
    Plotly.react(plot, traces.map(({ owner, ...trace }) => trace), layout(at, panel, chosen[at]), config);
    plot.owners = traces.map((trace) => trace.owner);
    if (plot.dataset.follows) return;
    plot.dataset.follows = "yes";
    plot.on("plotly_relayout", (change) => zoomed(at, change));
    if (panel.kind !== "curves" && panel.kind !== "share") return;
    plot.addEventListener("mousemove", (event) => showTip(at, plot, event));
    plot.addEventListener("mouseleave", hideTip);
  }

  // ---- Which panels, and when

  // The scale in words, and how many curves have no place on the axis, or no value on the scale.
  function noteOf(panel, curves) {
    if (panel.kind === "gains") return "";
    const scale = panel.kind === "curves" ? scaleOf(panel) : "linear", placed = curves.filter((curve) => xOf(curve).some((x) => x !== null));
    const gone = placed.filter((curve) => curve.values.some((value) => value !== null) && scaled(curve, curve.values, scale).every((value) => value === null));
    const why = { relative: "first value 0", log: "no value above 0" }[scale];
    const missing = [[curves.length - placed.length, `no ${state.x}`], [gone.length, why]].filter(([count]) => count);
    const name = { relative: "relative to the first value", log: "logarithmic" }[scale];
    return [...(name ? [name] : []), ...missing.map(([count, why]) => `not drawn: ${count} of ${curves.length} curves (${why})`)].join("; ");
  }

  function choose() {
    panels.forEach((panel, at) => {
      const of = data.panels[at], title = of.title.toLowerCase();
      const isFound = of.fixed || state.words.every((word) => title.includes(word));
      chosen[at] = isFound ? of.curves.filter((curve) => ["run", "task", "phase"].every((by) => !state.hidden[by].has(curve[by]))) : [];
      panel.hidden = !chosen[at].length;
      const note = panel.querySelector(".scale");
      if (note) note.textContent = noteOf(of, chosen[at]);
    });
    const placeOf = (panel, at) => (state.words.length && !data.panels[at].fixed && !panel.hidden ? found : homes[at]);
    if (panels.some((panel, at) => panel.parentElement !== placeOf(panel, at))) panels.forEach((panel, at) => placeOf(panel, at).append(panel));
    for (const group of groups) {
      const own = [...group.querySelectorAll(".panel")], shown = own.filter((panel) => !panel.hidden);
      group.hidden = !shown.length;
      group.querySelector(".count").textContent = shown.length === own.length ? `${own.length}` : `${shown.length} of ${own.length}`;
    }
    const isEmpty = panels.every((panel, at) => panel.hidden || data.panels[at].fixed);
    document.getElementById("nothing").hidden = !isEmpty;
    document.getElementById("nothing").textContent = isEmpty ? reason() : "";
  }

  function reason() {
    const none = ["task", "phase", "run"].find((of) => state.hidden[of].size && data.legend.filter((row) => row.of === of).every((row) => state.hidden[of].has(row.name)));
    if (none) return `No ${none} is chosen. Tick one above.`;
    if (state.words.length) return `No metric matches “${state.words.join(" ")}”. Clear the filter above.`;
    return "No curve belongs to this choice of tasks, phases and runs. Tick others above.";
  }

  function refresh() {
    version++;
    choose();
    schedule();
  }

  function schedule() {
    root.dataset.charts = "drawing";
    if (isWaiting) return;
    isWaiting = true;
    requestAnimationFrame(work);
  }

  // Draw what is near, in pieces of 40 ms; first what is in view.
  function work() {
    isWaiting = false;
    const begin = performance.now();
    const inView = (at) => {
      const box = panels[at].getBoundingClientRect();
      return box.bottom > 0 && box.top < innerHeight ? 0 : 1;
    };
    const todo = [...near].filter((at) => !panels[at].hidden && drawn.get(at) !== version).map((at) => [inView(at), at]);
    todo.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    while (todo.length && performance.now() - begin < 40) draw(todo.shift()[1]);
    if (todo.length) schedule();
    else root.dataset.charts = "drawn";
  }

  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) near[entry.isIntersecting ? "add" : "delete"](panels.indexOf(entry.target));
    schedule();
  }, { rootMargin: "300px 0px" });

  // ---- Zoom

  // Return the new range of an axis: null for the whole axis, undefined if it does not change.
  function zoomedTo(change, axis) {
    if (change[`${axis}.autorange`]) return null;
    return change[`${axis}.range`] ?? (`${axis}.range[0]` in change ? [change[`${axis}.range[0]`], change[`${axis}.range[1]`]] : undefined);
  }

  function zoomed(at, change) {
    const [x, y] = [zoomedTo(change, "xaxis"), zoomedTo(change, "yaxis")];
    if (x !== undefined) state.range = x;
    if (x === null) state.heights.clear();
    else if (y !== undefined && data.panels[at].kind === "curves") state.heights.set(at, y);
    if (x !== undefined || y !== undefined) refresh();
  }

  // ---- What the pointer is on

  const tip = document.body.appendChild(Object.assign(document.createElement("div"), { id: "tip", hidden: true }));
  const cross = Object.assign(document.createElement("div"), { className: "cross" });

  function element(name, text, className = "") {
    return Object.assign(document.createElement(name), { textContent: text, className });
  }

  // Return the index of the point of a curve that is closest to x; -1 if it has none.
  function closest(curve, x) {
    const at = xOf(curve);
    let low = 0, high = at.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (at[middle] === null || at[middle] < x) low = middle;
      else high = middle;
    }
    const best = Math.abs(at[low] - x) <= Math.abs(at[high] - x) ? low : high;
    return at[best] === null ? -1 : best;
  }

  function showTip(at, plot, event) {
    const full = plot._fullLayout, box = plot.getBoundingClientRect(), panel = data.panels[at];
    if (!full || !full.xaxis || event.buttons) return hideTip();
    const px = event.clientX - box.left - full.xaxis._offset, py = event.clientY - box.top - full.yaxis._offset;
    if (px < 0 || py < 0 || px > full.xaxis._length || py > full.yaxis._length) return hideTip();
    const x = full.xaxis.p2d(px);
    const points = chosen[at].map((curve) => ({ curve, i: closest(curve, x) })).filter((point) => point.i >= 0);
    if (!points.length) return hideTip();
    const heightOf = ({ curve, i }) => {
      const value = panel.kind === "share" ? null : valuesOf(curve, scaleOf(panel)).front[i];
      return value === null ? Infinity : Math.hypot(full.yaxis.d2p(value) - py, (full.xaxis.d2p(xOf(curve)[i]) - px) / 2);
    };
    const heights = points.map(heightOf);
    const pointed = points[heights.indexOf(Math.min(...heights))];
    tip.replaceChildren(...tipLines(panel, points, pointed));
    tip.hidden = false;
    const width = tip.offsetWidth, height = tip.offsetHeight;
    tip.style.left = `${Math.max(4, event.clientX + 16 + width > innerWidth ? event.clientX - 16 - width : event.clientX + 16)}px`;
    tip.style.top = `${Math.max(4, Math.min(event.clientY + 12, innerHeight - height - 4))}px`;
    const place = full.xaxis._offset + full.xaxis.d2p(xOf(pointed.curve)[pointed.i]);
    Object.assign(cross.style, { left: `${place}px`, top: `${full.yaxis._offset}px`, height: `${full.yaxis._length}px` });
    plot.append(cross);
    if (panel.kind === "curves") emphasise(plot, pointed.curve);
  }

  function tipLines(panel, points, pointed) {
    const { step, epoch } = data.places[pointed.curve.place];
    const where = [`step ${step[pointed.i].toLocaleString("en")}`];
    if (epoch && epoch[pointed.i] !== null) where.push(`epoch ${readable(epoch[pointed.i])}`);
    if (state.x !== "step" && state.x !== "epoch") where.push(`${data.axes.find((axis) => axis.name === state.x).title}: ${readable(xOf(pointed.curve)[pointed.i])}`);
    const table = document.createElement("table");
    const runs = new Set(points.map(({ curve }) => curve.run)).size, tasks = new Set(points.map(({ curve }) => curve.key)).size;
    for (const { curve, i } of points) {
      const row = table.insertRow();
      row.className = curve === pointed.curve ? "pointed" : "";
      row.insertCell().append(sample(lookOf(panel, curve)));
      if (runs > 1 || data.legend.filter((each) => each.of === "run").length > 1) row.append(element("td", curve.run, "name"));
      if (tasks > 1) row.append(element("td", panel.kind === "share" ? curve.task || "no task" : curve.key, "name"));
      row.append(element("td", curve.phase));
      row.append(element("td", valueText(panel, curve, i), "value"));
      const steps = data.places[curve.place].step;
      row.append(element("td", steps[i] === step[pointed.i] ? "" : `at ${steps[i].toLocaleString("en")}`, "faint"));
    }
    const found = [element("div", where.join(", "), "where"), table];
    const counts = pointed.curve.counts, reports = Array.isArray(counts) ? counts[pointed.i] : counts;
    if (reports && panel.kind === "curves") found.push(element("div", `${pointed.curve.phase} value of ${reports.toLocaleString("en")} report${reports === 1 ? "" : "s"}`, "faint"));
    return found;
  }

  function valueText(panel, curve, i) {
    const value = curve.values[i];
    if (value === null) return "not finite";
    if (panel.kind === "share") return `${(100 * value).toFixed(1)} %`;
    const { front } = valuesOf(curve, scaleOf(panel));
    const parts = [readable(value)];
    if (state.weight) parts.push(`smoothed ${readable(smooth(curve.values, state.weight)[i])}`);
    if (scaleOf(panel) === "relative" && front[i] !== null) parts.push(`${(100 * front[i]).toFixed(1)} %`);
    return parts.join("  ");
  }

  function emphasise(plot, curve) {
    plot.querySelectorAll(".scatterlayer .trace").forEach((trace, i) => {
      trace.style.opacity = !curve || plot.owners[i] === curve || plot.owners.length < 3 ? "" : 0.3;
    });
  }

  function hideTip() {
    tip.hidden = true;
    if (cross.parentElement) emphasise(cross.parentElement, null);
    cross.remove();
  }

  // ---- Controls

  function sample(curve) {
    const dashes = { solid: "", dash: "6 4", dot: "2 3", dashdot: "6 3 2 3", longdash: "11 4", longdashdot: "11 3 2 3" };
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    for (const [name, value] of [["width", 26], ["height", 10], ["aria-hidden", true]]) svg.setAttribute(name, value);
    const add = (shape, places) => {
      const part = document.createElementNS("http://www.w3.org/2000/svg", shape);
      for (const [name, value] of Object.entries(places)) part.setAttribute(name, value);
      svg.append(part);
    };
    add("line", { x1: 1, y1: 5, x2: 25, y2: 5, stroke: curve.colour, "stroke-width": curve.width + 1, "stroke-opacity": curve.opacity, "stroke-dasharray": dashes[curve.dash] });
    const markers = { circle: "M13 1a4 4 0 1 0 .1 0z", square: "M9 1h8v8h-8z", "triangle-up": "M13 0l5 9h-10z", x: "M9 1l8 8M17 1l-8 8", diamond: "M13 0l5 5-5 5-5-5z" };
    if (curve.marker) add("path", { d: markers[curve.marker], fill: curve.colour, stroke: curve.colour, "stroke-width": 2 });
    return svg;
  }

  // Add one box per row of the legend.
  function addBoxes(of) {
    const rows = data.legend.filter((row) => row.of === of), fieldset = controls.querySelector(`fieldset[data-of=${of}]`);
    const boxes = rows.map((row) => {
      const label = document.createElement("label");
      const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: true, value: row.name });
      label.title = `${row.label}: double-click to show only this one`;
      const show = () => sample(of === "run" && state.colour === "run" ? { ...row.style, colour: colourOfRun(row.name) } : row.style);
      label.append(box, show(), row.label);
      field("colour").addEventListener("change", () => label.querySelector("svg").replaceWith(show()));
      fieldset.append(label);
      box.addEventListener("change", () => { apply(); refresh(); });
      label.addEventListener("dblclick", () => {
        const isAlone = boxes.every((each) => each.checked === (each === box));
        boxes.forEach((each) => { each.checked = isAlone || each === box; });
        apply();
        refresh();
      });
      return box;
    });
    const apply = () => { state.hidden[of] = new Set(boxes.filter((box) => !box.checked).map((box) => box.value)); };
    fieldset.hidden = rows.length < 2;
  }

  function addOptions(select, options, value) {
    for (const [name, text] of options) select.append(Object.assign(document.createElement("option"), { value: name, textContent: text }));
    select.value = value;
  }

  // Before the boxes, so that `state` has the new choice when they show it.
  field("colour").addEventListener("change", () => { state.colour = field("colour").value; refresh(); });
  field("colour").parentElement.hidden = runs.length < 2;
  ["task", "phase", "run"].forEach(addBoxes);
  document.getElementById("legend").hidden = [...controls.querySelectorAll("fieldset")].every((each) => each.hidden);
  addOptions(field("x"), data.axes.map((axis) => [axis.name, axis.title]), state.x);
  const scales = new Set(data.panels.filter((panel) => !panel.fixed).map((panel) => panel.scale));
  state.scale = scales.size > 1 ? "" : [...scales][0] ?? "";
  const every = [["linear", "as logged"], ["relative", "relative to the first"], ["log", "logarithmic"]];
  addOptions(field("scale"), scales.size > 1 ? [["", "best for each panel"], ...every] : every, state.scale);
  addOptions(field("colour"), ["task", "run"].map((of) => [of, of]), state.colour);
  field("smoothing").value = state.weight;
  const showWeight = () => { field("weight").textContent = state.weight ? state.weight.toFixed(2) : "off"; };
  showWeight();

  field("find").addEventListener("input", () => {
    state.words = field("find").value.toLowerCase().split(/\s+/).filter(Boolean);
    refresh();
    // The controls stay in sight, so what is found may be far above.
    const [above] = [document.getElementById("nothing"), found.parentElement].filter((each) => !each.hidden);
    const hiddenBy = above ? controls.getBoundingClientRect().bottom - above.getBoundingClientRect().top : 0;
    if (state.words.length && hiddenBy > 0) scrollBy(0, -hiddenBy);
  });
  field("x").addEventListener("change", () => { state.x = field("x").value; state.range = null; state.heights.clear(); refresh(); });
  field("scale").addEventListener("change", () => { state.scale = field("scale").value; state.heights.clear(); refresh(); });
  field("smoothing").addEventListener("input", () => { state.weight = Number(field("smoothing").value); showWeight(); refresh(); });
  controls.addEventListener("submit", (event) => event.preventDefault());
  // Without this, a reload keeps boxes unticked, but shows their curves.
  controls.setAttribute("autocomplete", "off");
  if (matchMedia("(max-width: 700px)").matches) document.getElementById("legend").open = false;

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", refresh);
  // The texts beside rows are as long as the width allows, which changes if the user turns the phone.
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    refresh();
  });
  // Paper has all panels, and the tables of a report too.
  const folded = [...document.querySelectorAll("details:not(.long)")];
  let closed = [];
  for (const [event, isPaper] of [["beforeprint", true], ["afterprint", false]]) {
    addEventListener(event, () => {
      root.classList.toggle("paper", isPaper);
      if (isPaper) closed = folded.filter((each) => !each.open);
      closed.forEach((each) => { each.open = isPaper; });
      version++;
      panels.forEach((panel, at) => {
        if (panel.hidden || (!isPaper && !near.has(at))) return;
        draw(at);
        Plotly.Plots.resize(panel.querySelector(".plot"));
      });
    });
  }
  choose();
  panels.forEach((panel) => observer.observe(panel));
})();
