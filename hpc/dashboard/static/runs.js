// What the pages of libraries share: their runs as a list, all that is told of the chosen one, and curves.
import { html, asked, count, duration, Panel, percent, Table, useEffect, useState } from "./ui.js";
import { States } from "./list.js";

const EVERY_MS = 3000;

// What a question answers, again and again while the page is seen: [answer or null, why there is none].
export function useRepeated(path, params, wanted = true) {
  const [found, keep] = useState(null), [error, fail] = useState(""), key = JSON.stringify([path, params, wanted]);
  useEffect(() => {
    let on = wanted, timer = null;
    const look = () => {
      const next = () => { if (on) timer = setTimeout(look, EVERY_MS); };
      if (document.hidden) next();
      else asked(path, params).then((value) => on && (keep({ key, value }), fail("")), (problem) => on && fail(problem.message)).then(next);
    };
    if (wanted) look();
    return () => { on = false; clearTimeout(timer); };
  }, [key]);
  return [found && found.key === key ? found.value : null, error];
}

// A table that the run's process has: ten thousand rows, of which it sends the part that is seen.
export function Part({ page, id, what, set, params, columns, show }) {
  const mine = { q: params.w || "", sort: params.s || "", from: params.f || "" };
  const asks = Object.fromEntries(Object.entries(mine).filter(([, value]) => value));
  const [data, error] = useRepeated(`${page}/part`, { id, what, limit: 100, ...asks });
  const change = (changes, replace) => set(Object.fromEntries(Object.entries(changes).map(([name, value]) => [{ q: "w", sort: "s", from: "f" }[name] || name, value])), replace);
  if (!data) return html`<p class="empty">${error || "Asking"}</p>`;
  return html`<${Table} data=${data} params=${mine} set=${change} columns=${columns} show=${show} />`;
}

// Curves with places of their own as one chart's points.
export function together(curves) {
  const xs = [...new Set(curves.flatMap(([, at]) => at))].sort((a, b) => a - b), points = { times: xs };
  curves.forEach(([, at, values], number) => {
    const by = new Map(at.map((x, index) => [x, values[index]]));
    points[`line${number}`] = xs.map((x) => (by.has(x) && Number.isFinite(by.get(x)) ? by.get(x) : null));
  });
  return points;
}

export function Runs({ title, page, data, event, params, set, columns, none, children }) {
  const run = data.ones[0], [told, error] = useRepeated(`${page}/detail`, { id: params.id || "" }, Boolean(params.id));
  const show = { done: percent, age_s: (s) => duration(Math.round(s)), words: (text) => text, left_s: (s) => (s == null ? "" : `about ${duration(Math.round(s))}`) };
  const open = (row) => set({ id: row.run_id, w: "", s: "", f: "" });
  return html`${params.id ? html`<${Panel} title=${`${title} ${run ? run.name : params.id}`} note=${run ? `${run.state.toLowerCase()}${run.attempt ? `, started ${run.attempt + 1} times` : ""}` : ""}
      tools=${html`<button onClick=${() => set({ id: "" })}>close</button>`}>
      ${run ? html`<p>${run.words}${run.left_s == null ? "" : `, about ${duration(Math.round(run.left_s))} left`}</p>${run.why ? html`<p class="note ${run.state === "FAILED" || run.state === "LOST" ? "bad" : ""}">${run.why}</p>` : null}` : html`<p class="empty">nobody knows it any more</p>`}
      ${told && !told.live ? html`<p class="dim">its last word: it is over, or its process does not answer</p>` : null}${!told && params.id ? html`<p class="empty">${error || "Asking"}</p>` : null}<//>` : null}
    ${params.id && told && told.detail ? children(told.detail, run || {}, told.live) : null}
    <${Panel} title=${title} tools=${html`<${States} states=${data.states} params=${params} set=${set} />`}>
      ${data.total ? html`<${Table} data=${data} params=${params} set=${set} columns=${columns} open=${open} show=${show} />` : html`<p class="empty">${none}</p>`}<//>`;
}

// Rows that are there as a table without a filter.
export const table = (rows, columns) => ({ columns, rows, total: rows.length, matching: rows.length, from: 0 });
export const many = (shown, all) => (all > shown ? `${count(shown)} of ${count(all)}` : "");
