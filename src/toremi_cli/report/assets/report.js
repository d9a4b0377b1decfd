"use strict";
// Draws the charts of the page from the JSON that it carries. No library: lines, a cursor, a legend that toggles.
const data = JSON.parse(document.getElementById("data").textContent);
const tip = document.getElementById("tip");
const NS = "http://www.w3.org/2000/svg";
const COLOURS = 8;
const DASHES = ["", "7 3", "2 3", "9 3 2 3"];
const colour = (index) => `var(--c${index % COLOURS})`;

function svg(name, attributes, parent, text) {
  const element = document.createElementNS(NS, name);
  for (const key in attributes) element.setAttribute(key, attributes[key]);
  if (text !== undefined) element.textContent = text;
  if (parent) parent.append(element);
  return element;
}
function html(name, properties, parent) {
  const element = Object.assign(document.createElement(name), properties);
  if (parent) parent.append(element);
  return element;
}
function short(value) {
  if (value === null || !isFinite(value)) return "–";
  const size = Math.abs(value);
  for (const [limit, unit] of [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]])
    if (size >= limit) return String(+(value / limit).toPrecision(3)) + unit;
  return String(+value.toPrecision(3)).replace("-", "−");
}
const exact = (value) => (Math.abs(value) >= 1000 ? short(value) : value.toPrecision(4)).replace("-", "−");

function ticks(low, high, count) {
  const raw = (high - low) / Math.max(count, 1);
  if (!(raw > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.7);
  const found = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-9; v += step) found.push(+v.toPrecision(12));
  return found;
}
function logTicks(low, high) {
  const found = [];
  for (let p = Math.floor(Math.log10(low)); p <= Math.ceil(Math.log10(high)); p++)
    for (const m of [1, 2, 5]) { const v = m * 10 ** p; if (v >= low * 0.999 && v <= high * 1.001) found.push(v); }
  return found.length > 1 ? found : [low, high];
}
// Labels as near as they can be to where they belong, none over another.
function spread(wanted, gap, low, high) {
  const order = wanted.map((_, i) => i).sort((a, b) => wanted[a] - wanted[b]);
  const blocks = [];
  order.forEach((index, rank) => {
    let mean = wanted[index] - rank * gap, size = 1;
    while (blocks.length && blocks[blocks.length - 1].mean > mean) {
      const before = blocks.pop();
      mean = (before.mean * before.size + mean * size) / (before.size + size);
      size += before.size;
    }
    blocks.push({ mean, size });
  });
  const flat = blocks.flatMap((b) => Array(b.size).fill(b.mean));
  const top = Math.max(high - (order.length - 1) * gap, low);
  const places = [];
  order.forEach((index, rank) => { places[index] = Math.min(Math.max(flat[rank], low), top) + rank * gap; });
  return places;
}

// A chart of lines. series: {name, x, y, colour, dash, front}; options: height, log, switchStep, crop, labels, xTitle.
class LineChart {
  constructor(place, series, options) {
    Object.assign(this, { place, series, options });
    place.classList.add("chart");
    this.draw();
    new ResizeObserver(() => { if (Math.abs(place.clientWidth - this.width) > 1) this.draw(); }).observe(place);
  }
  extent() {
    const { log, crop } = this.options;
    let xs = [], ys = [];
    const last = Math.max(...this.series.flatMap((s) => s.x));
    for (const s of this.series) s.x.forEach((x, i) => {
      xs.push(x);
      const y = s.y[i];
      if (y !== null && (!crop || x >= crop * last) && (!log || y > 0)) ys.push(y);
    });
    const reduce = (f, values) => values.reduce((a, b) => f(a, b), values[0]);
    let x0 = reduce(Math.min, xs), x1 = reduce(Math.max, xs), y0 = reduce(Math.min, ys), y1 = reduce(Math.max, ys);
    if (x0 === x1) { x0 -= 1; x1 += 1; }
    if (log) { if (y0 === y1) { y0 /= 2; y1 *= 2; } const r = (y1 / y0) ** 0.05; return [x0, x1, y0 / r, y1 * r]; }
    const room = (y1 - y0) * 0.06 || Math.abs(y0) * 0.05 || 1;
    return [x0, x1, y0 - room, y1 + room];
  }
  draw() {
    const { place, options } = this;
    const width = this.width = place.clientWidth || 320, height = options.height;
    const front = this.series.filter((s) => s.front);
    const labels = options.labels && width >= 420 && front.length > 0;
    const margin = { left: 40, right: labels ? 138 : 10, top: 14, bottom: options.xTitle ? 34 : 20 };
    const [x0, x1, y0, y1] = this.extent();
    const f = options.log ? Math.log : (v) => v;
    const X = this.X = (v) => margin.left + ((v - x0) / (x1 - x0)) * (width - margin.left - margin.right);
    const Y = this.Y = (v) => height - margin.bottom - ((f(v) - f(y0)) / (f(y1) - f(y0))) * (height - margin.top - margin.bottom);
    place.replaceChildren();
    const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": options.title }, place);
    const clip = `clip${LineChart.count = (LineChart.count || 0) + 1}`;
    svg("rect", { x: margin.left, y: margin.top - 6, width: width - margin.left - margin.right + 2, height: height - margin.top - margin.bottom + 12 },
      svg("clipPath", { id: clip }, root));
    const inner = height - margin.top - margin.bottom;
    for (const v of options.log ? logTicks(y0, y1) : ticks(y0, y1, Math.max(inner / 34, 2))) {
      svg("line", { x1: margin.left, x2: width - margin.right, y1: Y(v), y2: Y(v), class: "grid" }, root);
      svg("text", { x: margin.left - 6, y: Y(v) + 4, "text-anchor": "end" }, root, short(v));
    }
    for (const v of ticks(x0, x1, Math.max((width - margin.left - margin.right) / 70, 2)))
      svg("text", { x: X(v), y: height - margin.bottom + 14, "text-anchor": "middle" }, root, short(v));
    svg("line", { x1: margin.left, x2: width - margin.right, y1: height - margin.bottom, y2: height - margin.bottom, class: "axis" }, root);
    if (options.xTitle) svg("text", { x: (margin.left + width - margin.right) / 2, y: height - 4, "text-anchor": "middle" }, root, options.xTitle);
    if (options.switchStep && options.switchStep >= x0 && options.switchStep <= x1) {
      const x = X(options.switchStep);
      svg("line", { x1: x, x2: x, y1: margin.top, y2: height - margin.bottom, class: "switch" }, root);
      const late = x > width - margin.right - 46;
      svg("text", { x: x + (late ? -4 : 4), y: margin.top - 3, "text-anchor": late ? "end" : "start" }, root, "stage 2");
    }
    const lines = svg("g", { "clip-path": `url(#${clip})` }, root);
    for (const s of [...this.series].sort((a, b) => a.front - b.front)) this.line(s, lines);
    if (labels) this.labels(front, root, width - margin.right, margin.top, height - margin.bottom);
    this.cursor = svg("line", { y1: margin.top, y2: height - margin.bottom, class: "cursor", visibility: "hidden" }, root);
    root.addEventListener("pointermove", (event) => this.hover(event, root));
    root.addEventListener("pointerdown", (event) => this.hover(event, root));
    root.addEventListener("pointerleave", () => { tip.hidden = true; this.cursor.setAttribute("visibility", "hidden"); });
  }
  line(s, parent) {
    if (s.low) {
      const edge = (values) => s.x.map((x, i) => `${this.X(x).toFixed(1)},${this.Y(values[i]).toFixed(1)}`);
      const around = [...edge(s.high), ...edge(s.low).reverse()].join(" ");
      svg("polygon", { points: around, class: "band", style: `fill:${s.colour};fill-opacity:.18` }, parent);
    }
    // A topic that an interval did not see has no point there; the line goes on, or lone points would not show at all.
    let path = "", pen = "M";
    s.x.forEach((x, i) => {
      if (s.y[i] === null) return;
      path += `${pen}${this.X(x).toFixed(1)},${this.Y(s.y[i]).toFixed(1)}`;
      pen = "L";
    });
    const style = `stroke:${s.front ? s.colour : "var(--grey)"};stroke-width:${s.front ? 1.9 : 0.9};stroke-dasharray:${s.dash || "none"}`;
    svg("path", { d: path, class: "line", style }, parent);
    if (s.x.length === 1 && s.y[0] !== null) svg("circle", { cx: this.X(s.x[0]), cy: this.Y(s.y[0]), r: 3, style: `fill:${s.colour}` }, parent);
  }
  labels(front, root, right, top, bottom) {
    const ends = front.map((s) => { const seen = s.y.filter((v) => v !== null); return { s, y: this.Y(seen[seen.length - 1]) }; }).filter((e) => isFinite(e.y));
    const places = spread(ends.map((e) => e.y), 13, top, bottom);
    ends.forEach(({ s, y }, i) => {
      svg("path", { d: `M${right + 2},${y}L${right + 12},${places[i]}`, class: "line", style: `stroke:${s.colour};opacity:.6` }, root);
      const name = s.name.length > 20 ? s.name.slice(0, 19) + "…" : s.name;
      svg("text", { x: right + 15, y: places[i] + 4, style: `fill:${s.colour}` }, root, name);
    });
  }
  hover(event, root) {
    const box = root.getBoundingClientRect();
    const at = (event.clientX - box.left) * (this.width / box.width), high = (event.clientY - box.top) * (this.options.height / box.height);
    const nearest = this.series.flatMap((s) => s.x).reduce((a, b) => (Math.abs(this.X(b) - at) < Math.abs(this.X(a) - at) ? b : a));
    const rows = this.series.map((s) => ({ s, y: s.y[s.x.indexOf(nearest)] })).filter((r) => r.y !== undefined && r.y !== null);
    rows.sort((a, b) => Math.abs(this.Y(a.y) - high) - Math.abs(this.Y(b.y) - high));
    const shown = rows.slice(0, 8).sort((a, b) => b.y - a.y);
    this.cursor.setAttribute("x1", this.X(nearest));
    this.cursor.setAttribute("x2", this.X(nearest));
    this.cursor.setAttribute("visibility", "visible");
    tip.replaceChildren();
    html("b", { textContent: `step ${nearest.toLocaleString("en")}` }, tip);
    for (const { s, y } of shown) {
      const row = html("div", {}, tip);
      html("span", { className: "swatch", style: `background:${s.front ? s.colour : "var(--grey)"}` }, row);
      html("span", { textContent: s.name }, row);
      html("span", { textContent: exact(y) }, row);
    }
    if (rows.length > shown.length) html("div", { textContent: `and ${rows.length - shown.length} more`, className: "hint" }, tip);
    tip.hidden = false;
    const left = event.clientX + 16 + tip.offsetWidth > innerWidth ? event.clientX - 16 - tip.offsetWidth : event.clientX + 16;
    tip.style.left = Math.max(left, 4) + "px";
    tip.style.top = Math.min(event.clientY + 12, innerHeight - tip.offsetHeight - 6) + "px";
  }
}

// Topics: one set of colours and toggles for all charts of a run.
function topicCharts(place, run) {
  place.replaceChildren();
  const chosen = new Map(run.highlight.map((topic, i) => [topic, i]));
  const charts = [];
  const grid = html("div", { className: "pair" }, place);
  for (const panel of run.panels) {
    const cell = html("div", {}, grid);
    html("h3", { textContent: panel.title }, cell);
    const series = run.topics.map((name, i) => ({ name: name.replaceAll("_", " "), x: run.steps, y: panel.values[i], topic: i }));
    const paint = () => series.forEach((s) => { s.front = chosen.has(s.topic); s.colour = s.front ? colour(chosen.get(s.topic)) : "var(--grey)"; });
    paint();
    const chart = new LineChart(html("div", {}, cell), series, { height: 280, log: panel.log, switchStep: run.switchStep, labels: true, xTitle: "step", title: panel.title });
    charts.push(() => { paint(); chart.draw(); });
  }
  const legend = html("div", { className: "legend" }, place);
  const free = () => { const used = new Set(chosen.values()); let i = 0; while (used.has(i)) i++; return i; };
  const buttons = run.topics.map((name, i) => {
    const button = html("button", { type: "button" }, legend);
    html("span", { className: "swatch" }, button);
    html("span", { textContent: name.replaceAll("_", " ") }, button);
    button.addEventListener("click", () => { chosen.has(i) ? chosen.delete(i) : chosen.set(i, free()); refresh(); });
    return button;
  });
  function refresh() {
    buttons.forEach((button, i) => {
      button.setAttribute("aria-pressed", chosen.has(i));
      button.firstChild.style.background = chosen.has(i) ? colour(chosen.get(i)) : "var(--grey)";
    });
    charts.forEach((draw) => draw());
  }
  refresh();
}
function tabs(place, names, show) {
  if (names.length < 2) { show(0); return; }
  const bar = html("div", { className: "tabs" });
  place.before(bar);
  const buttons = names.map((name, i) => {
    const button = html("button", { type: "button", textContent: name }, bar);
    button.addEventListener("click", () => choose(i));
    return button;
  });
  function choose(index) {
    buttons.forEach((b, i) => b.setAttribute("aria-pressed", i === index));
    show(index);
  }
  choose(0);
}
// Push discs that overlap apart, a little at a time.
function part(discs, width, height) {
  for (let round = 0; round < 150; round++)
    for (let i = 0; i < discs.length; i++) for (let j = 0; j < i; j++) {
      const a = discs[i], b = discs[j], dx = b.cx - a.cx || 0.01 * (i + 1), dy = b.cy - a.cy || 0.01;
      const apart = Math.hypot(dx, dy), wanted = a.r + b.r + 3;
      if (apart >= wanted) continue;
      const push = (wanted - apart) / 2 / apart;
      for (const [d, sign] of [[a, -1], [b, 1]]) {
        d.cx = Math.min(Math.max(d.cx + sign * dx * push, d.r + 2), width - d.r - 2);
        d.cy = Math.min(Math.max(d.cy + sign * dy * push, d.r + 12), height - d.r - 14);
      }
    }
}
function topicMap(place, map) {
  place.classList.add("chart");
  const draw = () => {
    const width = place.clientWidth || 320, height = Math.min(Math.max(width * 0.56, 380), 560);
    place.replaceChildren();
    const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": "map of topics" }, place);
    const largest = Math.max(...map.map((t) => t.size)), most = Math.min(width / 16, 34) * Math.min(Math.sqrt(24 / map.length), 1);
    const pad = most + 14;
    const discs = map.map((t) => ({ ...t, cx: pad + t.x * (width - 2 * pad), cy: pad + t.y * (height - 2 * pad), r: Math.max(most * Math.sqrt(t.size / largest), 3) }));
    part(discs, width, height);
    for (const d of [...discs].sort((a, b) => b.r - a.r)) {
      const share = Math.min(Math.abs(Math.log(d.weight ?? 1)) / Math.log(5), 1);
      const tone = d.weight === null ? "var(--grey)" : d.weight >= 1 ? "var(--c1)" : "var(--c0)";
      const fill = `color-mix(in srgb, ${tone} ${Math.round(38 + 62 * share)}%, var(--grid))`;
      const disc = svg("circle", { cx: d.cx, cy: d.cy, r: d.r, style: `fill:${fill};fill-opacity:.85;stroke:var(--card)`, tabindex: 0 }, root);
      const show = (event) => {
        tip.replaceChildren();
        html("b", { textContent: d.name }, tip);
        html("div", { textContent: d.words }, tip);
        for (const [key, value] of [["labels", d.labels], ["samples", d.size.toLocaleString("en")], ["weight", d.weight === null ? "–" : exact(d.weight)]]) {
          const row = html("div", {}, tip); html("span", { textContent: key }, row); html("span", { textContent: value }, row);
        }
        tip.hidden = false;
        tip.style.left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 6) + "px";
        tip.style.top = Math.min(event.clientY + 12, innerHeight - tip.offsetHeight - 6) + "px";
      };
      disc.addEventListener("pointermove", show);
      disc.addEventListener("pointerdown", show);
      disc.addEventListener("pointerleave", () => { tip.hidden = true; });
    }
    const taken = [];
    for (const d of [...discs].sort((a, b) => b.size - a.size)) {
      const name = d.name.length > 26 ? d.name.slice(0, 25) + "…" : d.name, half = name.length * 3.1;
      for (const y of [...(half < d.r ? [d.cy + 4] : []), d.cy + d.r + 11, d.cy - d.r - 4]) {
        const x = Math.min(Math.max(d.cx, half + 2), width - half - 2), box = [x - half, y - 11, x + half, y + 3];
        if (box[1] < 0 || box[3] > height) continue;
        const covers = discs.some((o) => o.size > d.size && o.cx > box[0] && o.cx < box[2] && o.cy + o.r > box[1] && o.cy - o.r < box[3]);
        if (!covers && taken.every((t) => box[2] < t[0] || box[0] > t[2] || box[3] < t[1] || box[1] > t[3])) {
          taken.push(box);
          svg("text", { x, y, "text-anchor": "middle", style: "fill:var(--ink);paint-order:stroke;stroke:var(--card);stroke-width:3px;pointer-events:none" }, root, name);
          break;
        }
      }
    }
  };
  draw();
  new ResizeObserver(draw).observe(place);
}

const asSeries = (panel) => panel.series.map((s) => ({ ...s, colour: colour(s.colour), dash: DASHES[s.dash % DASHES.length], front: true }));
const weights = document.getElementById("topic-charts");
if (weights) tabs(weights, data.runs.map((r) => r.name), (i) => topicCharts(weights, data.runs[i]));
const curves = document.getElementById("curves");
if (curves) for (const panel of data.curves) {
  const cell = html("div", {}, curves);
  html("h3", { textContent: panel.title }, cell);
  new LineChart(html("div", {}, cell), asSeries(panel), { height: 170, crop: panel.crop, title: panel.title });
}
const map = document.getElementById("topic-map");
if (map) topicMap(map, data.map);
addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
// What is folded on the screen is not lost on paper.
addEventListener("beforeprint", () => { for (const d of document.querySelectorAll("details")) d.open = true; });
