// Train: the runs, and of the chosen one its ranks, metrics, checkpoints and starts.
import { html, Chart, Panel, Table, count, duration, when } from "../ui.js";
import { Part, Runs, table, together } from "../runs.js";

const COLUMNS = ["name", "state", "words", "attempt", "start_time_ms", "end_time_ms", "why"];
const TONES = ["c1", "c3", "c2", "c4", "c5"];
const clock = (s) => when((s || 0) * 1e3);
const still = { find: false, params: {}, set: () => {} };

function One({ detail, run, live, params, set }) {
  const show = { steps_s: (rate) => (rate == null ? "" : `${count(rate)} /s`), report_age_s: (s) => (s == null ? "" : `${duration(Math.round(s))} ago`) };
  const ranks = ["rank", "node_id", "host", "devices", "state", "reports", "report_age_s", "steps_s", "doing"];
  const times = { stored_s: clock, began_s: clock, ended_s: clock, why: (text) => text };
  return html`${detail.slow.map((text) => html`<div class="note">${text}</div>`)}
    <div class="two">${detail.curves.map(([name, xs, ys], number) => html`<${Panel} title=${name}><${Chart} points=${together([[name, xs, ys]])} lines=${[["line0", name, TONES[number % TONES.length]]]} across="report" height=${130} /><//>`)}</div>
    <${Panel} title="Ranks" note=${detail.steps_s == null ? "" : `${count(detail.steps_s)} reports a second`}>
      ${live && !run.end_time_ms ? html`<${Part} page="train" id=${params.id} what="ranks" params=${params} set=${set} columns=${ranks} show=${show} />`
        : html`<${Table} data=${table(detail.ranks, ranks)} ...${still} show=${show} />`}<//>
    <${Panel} title="Checkpoints" note=${detail.path}><${Table} data=${table(detail.checkpoints, ["name", "report", "state", "stored_s", "metrics", "path"])} ...${still} show=${times} /><//>
    <${Panel} title="Starts"><${Table} data=${table(detail.attempts, ["number", "ranks", "began_s", "ended_s", "why"])} ...${still} show=${times} /><//>`;
}

export default function Train({ data, event, params, set }) {
  return html`<${Runs} title="Training" page="train" data=${data} event=${event} params=${params} set=${set} columns=${COLUMNS} none="no training has run in this session">
    ${(detail, run, live) => html`<${One} detail=${detail} run=${run} live=${live} params=${params} set=${set} />`}<//>`;
}
