// The timeline: a line for each worker, a rectangle for each task; wheel and keys zoom, dragging moves.
import { html, Panel, clock, count, duration, link, percent, useEffect, useRef, useState } from "../ui.js";

const ROW = 18, LEFT = 54, TOP = 20, SPANS = [[10, "10 s"], [60, "1 min"], [600, "10 min"], [0, "all"]];
const TONES = ["c1", "c3", "c2", "c4", "c5"];

// The same name has the same colour in every window.
const tone = (name) => TONES[[...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 9973, 7) % TONES.length];

function steps(span) { // a round number of seconds for about eight lines
  const raw = span / 8, power = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 5, 10].map((one) => one * power).find((one) => one >= raw);
}

function draw(canvas, data, over) {
  const css = getComputedStyle(document.documentElement), colour = (name) => css.getPropertyValue(`--${name}`).trim();
  const wide = canvas.clientWidth, high = TOP + data.lanes.length * ROW + 4, dense = window.devicePixelRatio || 1;
  canvas.width = wide * dense; canvas.height = high * dense; canvas.style.height = `${high}px`;
  const pen = canvas.getContext("2d"), span = Math.max(1e-6, data.end_s - data.begin_s), scale = (wide - LEFT) / span;
  pen.scale(dense, dense);
  pen.font = "11px system-ui, sans-serif";
  pen.textBaseline = "middle";
  const step = steps(span);
  for (let at = Math.ceil(data.begin_s / step) * step; at < data.end_s; at += step) {
    const x = LEFT + (at - data.begin_s) * scale;
    pen.fillStyle = colour("line"); pen.fillRect(x, TOP - 4, 1, high);
    pen.fillStyle = colour("dim"); pen.fillText(step < 1 ? `${clock(at * 1e3)}.${String(Math.round(at * 1e3) % 1000).padStart(3, "0")}` : clock(at * 1e3), x + 3, 8);
  }
  data.lanes.forEach((lane, number) => {
    pen.fillStyle = colour("dim"); pen.fillText(lane, 0, TOP + number * ROW + ROW / 2);
    pen.fillStyle = colour("line"); pen.fillRect(LEFT, TOP + (number + 1) * ROW - 1, wide, 1);
  });
  for (const rect of data.rects) {
    const [lane, start, long, name, , failed] = rect;
    const x = LEFT + (start / 1e3) * scale, right = Math.min(wide, x + Math.max(1, (long / 1e3) * scale));
    const left = Math.max(LEFT, x), y = TOP + lane * ROW + 2;
    pen.fillStyle = colour(failed ? "bad" : tone(data.names[name]));
    pen.globalAlpha = over === rect ? 1 : 0.82;
    pen.fillRect(left, y, right - left, ROW - 5);
    pen.globalAlpha = 1;
    if (right - left > 50) {
      pen.save(); pen.beginPath(); pen.rect(left, y, right - left - 3, ROW); pen.clip();
      pen.fillStyle = colour("panel"); pen.fillText(data.names[name], left + 4, y + (ROW - 5) / 2 + 1); pen.restore();
    }
  }
}

export default function Timeline({ data, params, set }) {
  const canvas = useRef(null), held = useRef(null), [over, hover] = useState(null);
  const span = data.end_s - data.begin_s, isLive = !params.end;
  useEffect(() => {
    const paint = () => draw(canvas.current, data, over);
    paint();
    const resized = new ResizeObserver(paint);
    resized.observe(canvas.current.parentElement);
    return () => resized.disconnect();
  }, [data, over, document.documentElement.dataset.theme]);
  const window_ = (begin, end) => set({ begin: begin.toFixed(4), end: end.toFixed(4), span: "" }, true);
  const timeAt = (x) => data.begin_s + ((x - LEFT) / (canvas.current.clientWidth - LEFT)) * span;
  const zoom = (by, around = (data.begin_s + data.end_s) / 2) => window_(around - (around - data.begin_s) * by, around + (data.end_s - around) * by);
  const find = (event) => {
    const lane = Math.floor((event.offsetY - TOP) / ROW), at = (timeAt(event.offsetX) - data.begin_s) * 1e3, near = (span * 2e3) / canvas.current.clientWidth;
    return data.rects.find((rect) => rect[0] === lane && rect[1] - near <= at && at <= rect[1] + rect[2] + near) || null;
  };
  const keys = (event) => {
    const by = { "+": () => zoom(0.5), "-": () => zoom(2), ArrowLeft: () => window_(data.begin_s - span / 4, data.end_s - span / 4), ArrowRight: () => window_(data.begin_s + span / 4, data.end_s + span / 4) }[event.key];
    if (by) { event.preventDefault(); by(); }
  };
  const move = (event) => {
    if (!held.current) { hover(find(event)); return; }
    held.current.moved = held.current.moved || Math.abs(event.offsetX - held.current.x) > 4;
  };
  const release = (event) => {
    const from = held.current;
    held.current = null;
    if (!from) return;
    if (from.moved) { const by = timeAt(from.x) - timeAt(event.offsetX); window_(data.begin_s + by, data.end_s + by); return; }
    const rect = find(event);
    if (rect) location.hash = link("tasks", { q: data.names[rect[3]] });
  };
  const about = over ? html`<b>${data.names[over[3]]}</b> ${over[4] > 1 ? `${count(over[4])} of them, ` : ""}${duration(over[2] / 1e3)} from ${clock(data.begin_s * 1e3 + over[1])} at worker ${data.lanes[over[0]]}${over[5] ? `, ${count(over[5])} failed` : ""}`
    : `${count(data.tasks)} tasks in ${duration(span)}${data.left_out ? `, ${count(data.left_out)} short ones left out` : ""}${data.all_lanes > data.lanes.length ? `, ${data.lanes.length} of ${data.all_lanes} workers` : ""}`;
  const tools = html`${SPANS.map(([s, words]) => html`<button class=${isLive && (params.span || "60") === String(s) ? "on" : ""} onClick=${() => set({ span: s, begin: "", end: "" })}>${words}</button>`)}
    <button onClick=${() => zoom(0.5)} title="+">closer</button><button onClick=${() => zoom(2)} title="-">wider</button>`;
  return html`<${Panel} title="Timeline" note=${about} tools=${tools}>
    ${data.rects.length ? null : html`<p class="empty">nothing ended in this time</p>`}
    <canvas ref=${canvas} class="timeline" tabindex="0" role="img" aria-label="what each worker ran" onKeyDown=${keys} onMouseMove=${move} onMouseLeave=${() => { held.current = null; hover(null); }}
      onMouseDown=${(event) => { held.current = { x: event.offsetX }; }} onMouseUp=${release} onWheel=${(event) => { if (event.ctrlKey || event.shiftKey) { event.preventDefault(); zoom(event.deltaY > 0 ? 1.4 : 0.7, timeAt(event.offsetX)); } }}></canvas>
    <div class="legend">${data.totals.map((one) => html`<a href=${link("tasks", { q: one.name })}><i style=${{ background: `var(--${tone(one.name)})` }}></i>${one.name} <span class="dim">${count(one.tasks)}, ${duration(one.in_window_s)}, ${percent(one.in_window_s / (span * Math.max(1, data.all_lanes)))} of the workers' time</span></a>`)}</div>
    <p class="dim">Failed tasks are red. + and - or Shift and the wheel zoom, dragging and the arrows move, a click lists the tasks of that name.</p><//>`;
}
