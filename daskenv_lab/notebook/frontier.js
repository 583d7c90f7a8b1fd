// What every other size would take and cost: points that tell more when they are pointed at, and
// below them how the run went, and would go on the cluster of the point that is chosen.

function render({ model, el }) {
  const SVG = "http://www.w3.org/2000/svg";
  const WIDTH = 640, HEIGHT = 240, LEFT = 60, BOTTOM = 34, TOP = 12, RIGHT = 14;

  function draw(kind, attributes, ...children) {
    const made = document.createElementNS(SVG, kind);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  function make(kind, className, text = "") {
    const made = document.createElement(kind);
    made.className = className;
    made.textContent = text;
    return made;
  }

  // Logarithmic, since twice as much is as far everywhere.
  function scale(values, from, to) {
    const low = Math.log(Math.min(...values) * 0.9), high = Math.log(Math.max(...values) * 1.1);
    return (value) => from + ((Math.log(value) - low) / (high - low || 1)) * (to - from);
  }

  function ticks(values) {
    const low = Math.min(...values) * 0.9, high = Math.max(...values) * 1.1;
    const steps = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1)
      for (const digit of [1, 2, 3, 5, 7]) steps.push(digit * 10 ** power);
    return steps.filter((step) => step >= low && step <= high);
  }

  const short = (value) => String(Number(value.toPrecision(2)));
  const points = model.get("points");
  const whole = make("div", "daskenv-frontier");
  whole.setAttribute("role", "group");
  whole.setAttribute("aria-label", model.get("title"));
  const said = make("p", "said");
  said.setAttribute("role", "status");
  const plot = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "group", "aria-label": "Time against cost" });
  const lines = make("div", "lines");

  function tell(point) {
    const marks = point.marks.length ? ` (${point.marks.join(", ")})` : "";
    said.textContent = `${point.label}${marks}: ${point.told}. ${point.why}.`;
  }

  function choose(index) {
    model.set("chosen", index);
    model.save_changes();
  }

  if (points.length) {
    const prices = points.map((point) => Math.max(point.price, 1e-9));
    const times = points.flatMap((point) => [point.low, point.high, point.seconds]);
    const x = scale(prices, LEFT, WIDTH - RIGHT), y = scale(times, HEIGHT - BOTTOM, TOP);
    for (const step of ticks(prices)) {
      plot.append(draw("line", { x1: x(step), x2: x(step), y1: TOP, y2: HEIGHT - BOTTOM, class: "grid" }));
      plot.append(draw("text", { x: x(step), y: HEIGHT - BOTTOM + 14, class: "tick", "text-anchor": "middle" }, short(step)));
    }
    for (const step of ticks(times)) {
      plot.append(draw("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(step), y2: y(step), class: "grid" }));
      plot.append(draw("text", { x: LEFT - 6, y: y(step) + 4, class: "tick", "text-anchor": "end" }, `${short(step)} s`));
    }
    plot.append(draw("text", { x: (LEFT + WIDTH) / 2, y: HEIGHT - 4, class: "tick", "text-anchor": "middle" }, model.get("unit")));
    plot.append(draw("polyline", { class: "front", points: points.map((p, i) => `${x(prices[i])},${y(p.seconds)}`).join(" ") }));
    points.forEach((point, index) => {
      const label = `${point.label}: ${point.told}`;
      const dot = draw("circle", { cx: x(prices[index]), cy: y(point.seconds), r: point.marks.length ? 7 : 5, class: point.marks.length ? "dot marked" : "dot", tabindex: 0, role: "button", "aria-label": label });
      const spread = draw("line", { x1: x(prices[index]), x2: x(prices[index]), y1: y(point.low), y2: y(point.high), class: "spread" });
      for (const event of ["pointerenter", "focus"]) dot.addEventListener(event, () => tell(point));
      dot.addEventListener("click", () => choose(index));
      dot.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        event.stopPropagation();
        choose(index);
      });
      plot.append(spread, dot);
      if (point.marks.length)
        plot.append(draw("text", { x: x(prices[index]), y: y(point.seconds) - 11, class: "mark", "text-anchor": "middle" }, point.marks.join(", ")));
    });
  }

  // One bar for each task, a row for each worker.
  function timeline(title, bars, end) {
    const rows = Math.max(...bars.map((bar) => bar[0]), 0) + 1;
    const row = Math.max(Math.min(120 / rows, 14), 2);
    const names = [...new Set(bars.map((bar) => bar[3]))];
    const drawn = draw("svg", { viewBox: `0 0 ${WIDTH} ${rows * row + 18}`, role: "img", "aria-label": `${title}: ${bars.length} tasks on ${rows} workers` });
    const at = (seconds) => LEFT + (seconds / end) * (WIDTH - LEFT - RIGHT);
    for (const [worker, start, stop, task] of bars) {
      const bar = draw("rect", { x: at(start), y: worker * row, width: Math.max(at(stop) - at(start) - 0.5, 0.5), height: row - 0.6, class: `bar hue${names.indexOf(task) % 6}` });
      bar.append(draw("title", {}, `${task}: ${start.toFixed(2)} s to ${stop.toFixed(2)} s`));
      drawn.append(bar);
    }
    drawn.append(draw("text", { x: LEFT, y: rows * row + 13, class: "tick" }, "0 s"));
    drawn.append(draw("text", { x: WIDTH - RIGHT, y: rows * row + 13, class: "tick", "text-anchor": "end" }, `${end.toFixed(1)} s`));
    return [make("p", "title", title), drawn];
  }

  function showLines() {
    const { measured, foreseen, title } = model.get("timelines");
    if (!measured.length && !foreseen.length) return lines.replaceChildren();
    const end = Math.max(...[...measured, ...foreseen].map((bar) => bar[2]), 0.001);
    lines.replaceChildren(...timeline("As it ran", measured, end), ...timeline(title, foreseen, end));
  }

  model.on("change:timelines", showLines);
  whole.append(plot, said, lines);
  el.append(whole);
  said.textContent = points.length ? "Point at a size to see why; choose it to see its run." : "";
  showLines();
  return () => model.off("change:timelines", showLines);
}

export default { render };
