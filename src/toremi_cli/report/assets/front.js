// How the page opens: what was drawn, as areas, beside the mean learning curves.
// Shares of the draws, one area on the other; a browser's own tip names them.
function areas(place, chart) {
  place.classList.add("chart");
  const draw = () => {
    const width = place.clientWidth || 320, height = 220, left = 40, bottom = 20, top = 8, last = chart.steps.length - 1;
    place.replaceChildren();
    const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": `${chart.title}: shares of the draws` }, place);
    const span = chart.steps[last] - chart.steps[0] || 1;
    const X = (i) => left + ((chart.steps[i] - chart.steps[0]) / span) * (width - left - 10);
    const Y = (v) => top + (1 - v) * (height - top - bottom);
    for (const v of [0, 0.25, 0.5, 0.75, 1]) svg("text", { x: left - 6, y: Y(v) + 4, "text-anchor": "end" }, root, `${100 * v}%`);
    for (const v of ticks(chart.steps[0], chart.steps[last], (width - left) / 70))
      svg("text", { x: left + ((v - chart.steps[0]) / span) * (width - left - 10), y: height - 5, "text-anchor": "middle" }, root, short(v));
    let below = chart.steps.map(() => 0);
    chart.layers.forEach((layer, number) => {
      const above = below.map((v, i) => v + layer.y[i]);
      const points = [...above.map((v, i) => `${X(i)},${Y(v)}`), ...below.map((v, i) => `${X(i)},${Y(v)}`).reverse()].join(" ");
      const tone = { less: "var(--c6)", more: "var(--c2)" }[layer.tone] || "var(--grey)";
      const area = svg("polygon", { points, style: `fill:${tone};fill-opacity:${layer.tone ? 1 - 0.2 * (number % 3) : 1};stroke:var(--card);stroke-width:.5` }, root);
      svg("title", {}, area, `${layer.name}: ${(100 * layer.y[last]).toPrecision(2)}% at the end`);
      below = above;
    });
  };
  draw();
  new ResizeObserver(draw).observe(place);
}

const front = document.getElementById("front");
if (front) {
  for (const chart of data.draws) {
    const cell = html("div", {}, front);
    html("h3", { textContent: chart.title }, cell);
    areas(html("div", {}, cell), chart);
  }
  if (data.curves.length) {
    const cell = html("div", {}, front), panel = data.curves[0];
    const title = html("h3", { textContent: "bits per byte: " }, cell);
    for (const s of panel.series) html("span", { textContent: `${s.name} `, style: `color:${colour(s.colour)}` }, title);
    new LineChart(html("div", {}, cell), asSeries(panel), { height: 220, crop: panel.crop, title: panel.title });
  }
}
