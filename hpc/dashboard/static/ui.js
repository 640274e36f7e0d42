// The parts that pages are made of: numbers in words, tables, bars, charts. Text is always set as text, never as markup.
import { html, useEffect, useRef, useState } from "./vendor/preact.js";
export { html, useEffect, useRef, useState };

// ---------------------------------------------------------------- numbers in words

export function bytes(value) {
  if (value == null) return "";
  for (const [unit, size] of [["TB", 1e12], ["GB", 1e9], ["MB", 1e6], ["kB", 1e3]])
    if (value >= size) return `${(value / size).toFixed(value / size < 10 ? 1 : 0)} ${unit}`;
  return value ? `${value} B` : "0";
}

export function count(value) {
  if (value == null) return "";
  return Number.isInteger(value) ? value.toLocaleString("en") : String(+value.toPrecision(3));
}

export function duration(s) {
  if (s == null) return "";
  if (!s) return "0";
  if (s < 1e-3) return `${Math.round(s * 1e6)} µs`;
  if (s < 1) return `${+(s * 1e3).toPrecision(3)} ms`;
  if (s < 60) return `${+s.toPrecision(3)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

export const percent = (share) => (share == null ? "" : `${Math.round(100 * share)} %`);

export const clock = (ms) => (ms ? new Date(ms).toTimeString().slice(0, 8) : "");

// A moment with its day, where that is another one than today; both as this machine's clock has them.
export function when(ms) {
  const at = new Date(ms), two = (number) => String(number).padStart(2, "0");
  if (!ms || at.toDateString() === new Date().toDateString()) return clock(ms);
  return `${two(at.getMonth() + 1)}-${two(at.getDate())} ${clock(ms)}`;
}

export function words(value) {
  if (value == null) return "";
  if (Array.isArray(value)) return value.join(", ");
  if (typeof value === "object")
    return Object.entries(value).filter(([name]) => !name.startsWith("node:"))
      .map(([name, one]) => `${name}: ${name.includes("memory") ? bytes(one) : typeof one === "number" ? count(one) : words(one)}`).join(", ");
  return typeof value === "number" ? count(value) : String(value);
}

// ---------------------------------------------------------------- small parts

const TONES = {
  good: ["ALIVE", "FINISHED", "CREATED", "INLINE", "STORED", "INFO", "RETURNED", "KEPT", "TERMINATED", "done"],
  busy: ["RUNNING", "SUBMITTED_TO_WORKER", "STARTING", "running"],
  bad: ["DEAD", "FAILED", "ERROR", "ENDED", "LOST", "GONE"],
  warn: ["SILENT", "RESTARTING", "WARNING", "WAITING", "PAUSED", "suspended", "queued"],
};

export function State({ is }) {
  const text = String(is);
  const tone = Object.keys(TONES).find((name) => TONES[name].includes(text)) || (text.startsWith("PENDING") ? "warn" : "");
  return html`<span class="tag ${tone}">${text.toLowerCase().replaceAll("_", " ")}</span>`;
}

export function Bar({ parts }) {
  return html`<div class="bar">${parts.map(([share, colour]) => html`<i style=${{ width: `${100 * Math.min(1, share || 0)}%`, background: `var(--${colour})` }}></i>`)}</div>`;
}

export function Tile({ label, big, small, share, colour, tone }) {
  return html`<div class="tile"><div class="label">${label}</div>
    <div class="big" style=${tone ? { color: `var(--${tone})` } : {}}>${big} <small>${small}</small></div>
    ${share == null ? null : html`<${Bar} parts=${[[share, colour || (share > 0.92 ? "warn" : "accent")]]} />`}</div>`;
}

export function Panel({ title, note, tools, children }) {
  return html`<section class="panel"><h2>${title} ${note ? html`<small>${note}</small>` : null}<span class="grow"></span>${tools}</h2>${children}</section>`;
}

// ---------------------------------------------------------------- tables

const SHOWN = {
  state: (value) => html`<${State} is=${value} />`,
  _bytes: (value) => bytes(value),
  _ms: (value) => when(value),
  _s: (value) => duration(value),
  pid: (value) => value || "",
  driver_pid: (value) => value || "",
};
const LONG = ["why", "state_message", "exit_brief", "message", "text"];
const title = (name) => name.replace(/_(bytes|ms|s)$/, "").replaceAll("_", " ");
const shownBy = (name) => SHOWN[name] || SHOWN[(name.match(/_(bytes|ms|s)$/) || [""])[0]];

// `data` is what the server's `listing` gives; `set` changes the page's parameters; `open(row)` is called for a chosen row.
export function Table({ data, params, set, open, columns, show = {}, find = true }) {
  const shown = columns || data.columns;
  const sort = params.sort || "";
  const numeric = (name) => data.rows.some((row) => typeof row[name] === "number");
  const turn = (name) => set({ sort: sort === name ? `-${name}` : sort === `-${name}` ? "" : name, from: "" });
  const step = +(params.limit || 100), from = data.from;
  return html`<div>
    ${find ? html`<div class="tools">
      <input type="search" class="filter" placeholder="filter: words, field=value   ( / )" aria-label="filter" value=${params.q || ""}
        onInput=${(event) => set({ q: event.target.value, from: "" }, true)} />
      <span class="dim">${data.matching === data.total ? `${count(data.total)} in all` : `${count(data.matching)} of ${count(data.total)}`}${data.cut ? `, ${data.cut} more do not fit` : ""}</span>
      ${data.matching > step ? html`<button disabled=${!from} onClick=${() => set({ from: Math.max(0, from - step) || "" })}>earlier</button>
        <button disabled=${from + step >= data.matching} onClick=${() => set({ from: from + step })}>later</button>
        <span class="dim">${from + 1} to ${from + data.rows.length}</span>` : null}
    </div>` : null}
    ${data.rows.length ? html`<div class="scroll"><table><thead><tr>${shown.map((name) => html`<th class=${numeric(name) ? "num" : ""}
        aria-sort=${sort === name ? "ascending" : sort === `-${name}` ? "descending" : "none"}>${find ? html`<button onClick=${() => turn(name)}>${title(name)}${sort === name ? " ↑" : sort === `-${name}` ? " ↓" : ""}</button>` : title(name)}</th>`)}</tr></thead>
      <tbody>${data.rows.map((row) => html`<tr class=${open ? "pick" : ""} tabindex=${open ? 0 : undefined} onClick=${open ? () => open(row) : undefined}
          onKeyDown=${open ? (event) => event.key === "Enter" && open(row) : undefined}>
        ${shown.map((name) => html`<td title=${LONG.includes(name) ? row[name] : undefined} class=${numeric(name) ? "num" : name.endsWith("_id") ? "mono" : ""}>${(show[name] || shownBy(name) || words)(row[name], row)}</td>`)}</tr>`)}</tbody></table></div>`
      : html`<p class="empty">${data.total ? "nothing passes the filter" : "nothing"}</p>`}
  </div>`;
}

export function Facts({ of, skip = [] }) {
  const names = Object.keys(of || {}).filter((name) => !skip.includes(name) && of[name] !== "" && of[name] != null);
  return html`<dl>${names.map((name) => html`<dt>${title(name)}</dt><dd>${(shownBy(name) || words)(of[name])}</dd>`)}</dl>`;
}

// ---------------------------------------------------------------- charts

// `points` is {times, name: [...], ...}; `lines`: [[name, label, colour], ...]; `form` writes a value. `across` writes what
// the times are where they are none: reports, iterations. Then gaps are spanned, and the scale is that of the values.
export function Chart({ points, lines, form = count, most, height = 150, across, legend = true }) {
  const box = useRef(null), plot = useRef(null);
  const rows = [points.times, ...lines.map(([name]) => points[name] || points.times.map(() => null))];
  const key = lines.map(([name]) => name).join() + document.documentElement.dataset.theme;
  useEffect(() => {
    const css = getComputedStyle(document.documentElement), colour = (name) => css.getPropertyValue(`--${name}`).trim();
    const axis = { stroke: colour("dim"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    plot.current = new window.uPlot({
      width: box.current.clientWidth || 400, height, legend: { show: legend, live: true }, padding: [8, 8, 0, 0],
      cursor: { y: false, sync: { key: "charts" }, points: { size: 5 } },
      scales: across ? { x: { time: false } } : { x: { range: (_, low, high) => [Math.min(low, high - 120), high] }, y: { range: (_, low, high) => [0, most || Math.max(1, high * 1.1)] } },
      axes: [{ ...axis, space: 80, size: 24, values: (_, ticks) => ticks.map((tick) => (across ? count(tick) : clock(tick * 1e3))) }, { ...axis, size: 46, values: (_, ticks) => ticks.map((tick) => form(tick)) }],
      series: [{ label: across || "at", value: (_, at) => (at == null ? "" : across ? count(at) : when(at * 1e3)) }, ...lines.map(([, label, tone]) => ({
        label, stroke: colour(tone), width: 1.5, spanGaps: Boolean(across), points: { show: false }, value: (_, one) => (one == null ? "–" : form(one)),
      }))],
    }, rows, box.current);
    const resized = new ResizeObserver(() => plot.current && plot.current.setSize({ width: box.current.clientWidth, height }));
    resized.observe(box.current);
    return () => { resized.disconnect(); plot.current.destroy(); plot.current = null; };
  }, [key]);
  useEffect(() => { if (plot.current) plot.current.setData(rows); }, [points]);
  return html`<div ref=${box} class="plot"></div>`;
}

// ---------------------------------------------------------------- questions beside the feed

export async function asked(path, params = {}, more = {}) {
  const query = new URLSearchParams(params).toString();
  const answer = await fetch(`api/more/${path}${query ? `?${query}` : ""}`, { headers: { "x-hpc": "1" }, ...more });
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error || answer.statusText);
  return found;
}

// What a question answers, asked anew when `key` changes: {value} or {error}; {} while it is under way.
export function useAsked(path, params, key) {
  const [found, keep] = useState({});
  useEffect(() => {
    let on = true;
    keep({});
    if (path) asked(path, params).then((value) => on && keep({ value }), (error) => on && keep({ error: error.message }));
    return () => { on = false; };
  }, [path, key]);
  return found;
}

// ---------------------------------------------------------------- links

// The address of a page with parameters.
export const link = (page, params = {}) => `#/${page}${Object.keys(params).length ? `?${new URLSearchParams(params)}` : ""}`;
