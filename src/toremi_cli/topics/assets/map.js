"use strict";
const byId = id => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);
const canvas = byId("map"), frame = byId("frame"), tip = byId("tip"), all = byId("all"), legend = byId("legend");
const dark = matchMedia("(prefers-color-scheme: dark)");
const topics = new Map(data.topics.map(topic => [topic.id, topic]));
const rows = [...document.querySelectorAll("tbody tr")].map(row => ({row, button: row.querySelector("button"), text: row.textContent.toLowerCase()}));
const haystack = data.text.map((text, i) => [text, data.sources[data.source[i]], topics.get(data.topic[i])?.name ?? ""].join("\n").toLowerCase());
const NEAREST = 40;  // how far the map can be zoomed into
let chosen = null, source = null, query = "", over = -1, boxes = [], view = {scale: 1, x: 0, y: 0};

const style = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const bySource = () => byId("colours").value === "source";
const isShown = i => (chosen === null || data.topic[i] === chosen) && (source === null || data.source[i] === source)
  && (!query || haystack[i].includes(query));
const margin = () => Math.max(14, canvas.clientWidth * 0.035);
const place = (x, y) => {
  const m = margin(), across = m + x / data.grid * (canvas.clientWidth - 2 * m), down = m + (1 - y / data.grid) * (canvas.clientHeight - 2 * m);
  return [view.x + across * view.scale, view.y + down * view.scale];
};

function draw() {
  const scale = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const vivid = style("--vivid"), light = style("--dot"), soft = style("--soft"), sources = bySource();
  const radius = Math.max(1.6, Math.min(3.6, Math.sqrt(width * height / data.x.length) / 4.5)) * Math.min(2, view.scale ** 0.3);
  const dot = (i, shown) => {
    const hue = sources ? data.source_hues[data.source[i]] : topics.get(data.topic[i])?.hue;
    pen.globalAlpha = !shown ? 0.1 : hue === undefined ? 0.35 : 0.78;
    pen.fillStyle = hue !== undefined && shown ? `hsl(${hue} ${vivid} ${light})` : soft;
    const [x, y] = place(data.x[i], data.y[i]);
    pen.beginPath();
    pen.arc(x, y, i === over ? radius + 2.5 : radius, 0, 7);
    pen.fill();
  };
  const shown = data.x.map((_, i) => isShown(i));
  shown.forEach((on, i) => { if (!on) dot(i, false); });
  shown.forEach((on, i) => { if (on) dot(i, true); });
  if (over >= 0) dot(over, true);
  names(pen, width, height);
}

function names(pen, width, height) {
  const size = width < 560 ? 11 : 12.5, ink = style("--ink"), ground = style("--paper");
  pen.font = `600 ${size}px ${getComputedStyle(document.body).fontFamily}`;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.lineJoin = "round";
  boxes = [];
  for (const topic of data.topics) {
    if (!topic.at || (chosen !== null && topic.id !== chosen)) continue;
    const half = pen.measureText(topic.name).width / 2 + 3, tall = size * 0.75;
    const [px, py] = place(...topic.at);
    if (px < 0 || px > width || py < 0 || py > height) continue;
    const x = Math.min(Math.max(px, half + 2), width - half - 2);
    for (const shift of [0, -1.5, 1.5, -3, 3]) {
      const y = Math.min(Math.max(py + shift * size, tall + 2), height - tall - 2);
      if (boxes.some(b => Math.abs(b.x - x) < b.half + half && Math.abs(b.y - y) < b.tall + tall)) continue;
      pen.globalAlpha = 0.9;
      pen.strokeStyle = ground;
      pen.lineWidth = 4;
      pen.strokeText(topic.name, x, y);
      pen.globalAlpha = 1;
      pen.fillStyle = ink;
      pen.fillText(topic.name, x, y);
      boxes.push({x, y, half, tall, id: topic.id});
      break;
    }
  }
}

function nearest(x, y, reach) {
  let best = -1, least = reach * reach;
  for (let i = 0; i < data.x.length; i++) {
    const [px, py] = place(data.x[i], data.y[i]), distance = (px - x) ** 2 + (py - y) ** 2;
    if (distance < least && isShown(i)) { least = distance; best = i; }
  }
  return best;
}

function show(i) {
  if (i === over) return;
  over = i;
  tip.hidden = i < 0;
  if (i >= 0) {
    const topic = topics.get(data.topic[i]), part = (tag, text) => {
      const element = document.createElement(tag);
      element.textContent = text;
      return element;
    };
    tip.replaceChildren(part("b", topic ? topic.name : "no topic"), part("small", data.sources[data.source[i]]), part("span", data.text[i]));
    const [x, y] = place(data.x[i], data.y[i]), width = tip.offsetWidth, height = tip.offsetHeight;
    tip.style.left = Math.max(6, Math.min(x + 14, frame.clientWidth - width - 6)) + "px";
    tip.style.top = (y + 14 + height < frame.clientHeight ? y + 14 : Math.max(6, y - height - 14)) + "px";
  }
  draw();
}

function refresh() {
  const matching = data.x.map((_, i) => i).filter(isShown), inTopic = new Set(matching.map(i => data.topic[i]));
  all.hidden = chosen === null && source === null && !query;
  byId("found").textContent = all.hidden ? "" : `${matching.length.toLocaleString("en")} of ${data.x.length.toLocaleString("en")} on the map`;
  for (const {row, button, text} of rows) {
    const id = Number(button.dataset.topic), on = id === chosen;
    button.setAttribute("aria-pressed", String(on));
    row.classList.toggle("chosen", on);
    row.hidden = query !== "" && !text.includes(query) && !inTopic.has(id);
  }
  legend.hidden = !bySource();
  for (const button of legend.children) button.setAttribute("aria-pressed", String(Number(button.dataset.source) === source));
  over = -1;
  tip.hidden = true;
  draw();
}

function choose(id) { chosen = chosen === id ? null : id; refresh(); }

function reset() {
  chosen = source = null;
  query = byId("query").value = "";
  refresh();
}

function zoom(factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
  const scale = Math.min(NEAREST, Math.max(1, view.scale * factor)), by = scale / view.scale;
  move(scale, x - (x - view.x) * by, y - (y - view.y) * by);
}

function move(scale, x, y) {  // the map never leaves its frame
  view = {scale, x: Math.min(0, Math.max(canvas.clientWidth * (1 - scale), x)), y: Math.min(0, Math.max(canvas.clientHeight * (1 - scale), y))};
  canvas.classList.toggle("near", scale > 1);
  byId("farther").disabled = scale === 1;
  byId("nearer").disabled = scale === NEAREST;
  over = -1;
  tip.hidden = true;
  draw();
}

const at = event => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
const held = new Map();  // pointers that are down, and where
let dragged = false;
const spread = () => { const [a, b] = [...held.values()]; return {gap: Math.hypot(a[0] - b[0], a[1] - b[1]), x: (a[0] + b[0]) / 2, y: (a[1] + b[1]) / 2}; };

canvas.addEventListener("pointerdown", event => {
  if (held.size === 0) dragged = false;
  held.set(event.pointerId, at(event));
});
canvas.addEventListener("pointermove", event => {
  const [x, y] = at(event), last = held.get(event.pointerId);
  if (!last) return show(nearest(x, y, event.pointerType === "touch" ? 26 : 14));
  if (held.size === 2) {
    const before = spread();
    held.set(event.pointerId, [x, y]);
    const after = spread();
    dragged = true;
    zoom(after.gap / Math.max(before.gap, 1), after.x, after.y);
    return;
  }
  if (!dragged && Math.hypot(x - last[0], y - last[1]) < 4) return;
  dragged = true;
  held.set(event.pointerId, [x, y]);
  if (view.scale > 1) {
    canvas.setPointerCapture(event.pointerId);
    canvas.classList.add("held");
    move(view.scale, view.x + x - last[0], view.y + y - last[1]);
  }
});
for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) canvas.addEventListener(name, event => {
  held.delete(event.pointerId);
  canvas.classList.remove("held");
});
canvas.addEventListener("pointerleave", event => { held.delete(event.pointerId); if (event.pointerType !== "touch") show(-1); });
canvas.addEventListener("wheel", event => {  // alone it scrolls the page; two fingers on a touchpad come with ctrlKey
  if (!event.ctrlKey && !event.metaKey) return;
  event.preventDefault();
  zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : event.deltaY % 1 ? 0.01 : 0.003)), ...at(event));
}, {passive: false});
canvas.addEventListener("dblclick", event => zoom(2, ...at(event)));
canvas.addEventListener("click", event => {
  if (dragged) return;
  const [x, y] = at(event), name = boxes.find(b => Math.abs(b.x - x) < b.half && Math.abs(b.y - y) < b.tall);
  const i = nearest(x, y, 26);
  if (name) choose(name.id); else if (event.pointerType === "touch" || i < 0) show(i); else if (topics.has(data.topic[i])) choose(data.topic[i]);
});
byId("nearer").addEventListener("click", () => zoom(1.6));
byId("farther").addEventListener("click", () => zoom(1 / 1.6));
byId("query").addEventListener("input", event => { query = event.target.value.trim().toLowerCase(); refresh(); });
byId("colours").addEventListener("change", () => { source = null; refresh(); });
all.addEventListener("click", reset);
document.addEventListener("keydown", event => { if (event.key === "Escape" && !all.hidden) reset(); });
for (const {button} of rows) button.addEventListener("click", () => {
  choose(Number(button.dataset.topic));
  if (chosen !== null) frame.scrollIntoView({block: "nearest"});
});
for (const index of data.source_order) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = data.sources[index];
  button.dataset.source = index;
  button.style.setProperty("--hue", data.source_hues[index]);
  button.addEventListener("click", () => { source = source === index ? null : index; refresh(); });
  legend.append(button);
}
dark.addEventListener("change", draw);
new ResizeObserver(() => move(view.scale, view.x, view.y)).observe(canvas);
refresh();
