// Metrics: the newest of all that the session counts, and the course of the chosen one.
import { html, Chart, count, bytes, duration, Panel, percent, Table, useEffect, useState, asked } from "../ui.js";

const TONES = ["c1", "c2", "c3", "c4", "c5", "accent", "warn", "bad"], SPANS = [["600", "10 min"], ["3600", "1 h"], ["21600", "6 h"]];
// A metric's name ends in its unit, which total follows where it only grows.
const form = (name) => (/_bytes(_total)?$/.test(name) ? bytes : /_seconds$/.test(name) ? duration : /_ratio$/.test(name) ? percent : count);

function One({ name, about, params, set }) {
  const [found, keep] = useState(null), [error, fail] = useState(""), since = params.since_s || "600";
  useEffect(() => {
    let on = true;
    const look = () => { if (!document.hidden) asked("metrics/course", { name, since }).then((value) => on && keep(value), (problem) => on && fail(problem.message)); };
    keep(null); fail(""); look();
    const timer = setInterval(look, 4000);
    return () => { on = false; clearInterval(timer); };
  }, [name, since]);
  const tools = html`${SPANS.map(([s, words]) => html`<button class=${since === s ? "on" : ""} onClick=${() => set({ since_s: s })}>${words}</button>`)}<button onClick=${() => set({ id: "" })}>close</button>`;
  return html`<${Panel} title=${name} note=${`${about}${found && found.all_lines > found.lines.length ? ` ${found.lines.length} of ${found.all_lines} lines` : ""}`} tools=${tools}>
    ${error ? html`<p class="empty">${error}</p>` : !found ? html`<p class="empty">Asking</p>` : found.lines.length ? html`<${Chart} points=${found.points} lines=${found.lines.map((label, number) => [`line${number}`, label, TONES[number]])} form=${form(name)} height=${220} />` : html`<p class="empty">nothing is known of its course yet</p>`}<//>`;
}

export default function Metrics({ data, params, set }) {
  const shown = (value, row) => (value == null ? "" : form(row.name)(value));
  const note = data.age_s == null ? "nothing has come yet" : `${count(data.nodes)} nodes, ${duration(Math.round(data.age_s))} old at the head${data.dropped ? `, ${count(data.dropped)} had no room of their own` : ""}`;
  return html`${params.id ? html`<${One} name=${params.id} about=${data.about} params=${params} set=${set} />` : null}
    ${data.silent.length ? html`<div class="note">no metrics from nodes ${data.silent.join(", ")}</div>` : null}
    <${Panel} title="Metrics" note=${note}><${Table} data=${data} params=${params} set=${set} open=${(row) => set({ id: row.name })} show=${{ value: shown, least: shown, median: shown, largest: shown }} /><//>`;
}
