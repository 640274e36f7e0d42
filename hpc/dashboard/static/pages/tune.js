// Tune: searches, and of the chosen one its trials by state, the best, the objective's course, and what was decided.
import { html, Chart, Facts, Panel, State, Table, Tile, count, duration, when } from "../ui.js";
import { Part, Runs, many, table, together } from "../runs.js";

const COLUMNS = ["name", "state", "done", "words", "left_s", "start_time_ms", "end_time_ms", "why"];
const TONES = ["c1", "c3", "c2", "c4", "c5"], TRIALS = ["name", "state", "iteration", "objective", "parameters", "total_s", "failures", "host", "why"];
const clock = (s) => when((s || 0) * 1e3);
const still = { find: false, params: {}, set: () => {} };

function One({ detail, run, live, params, set }) {
  const total = detail.total == null ? "of no fixed number" : `of ${count(detail.total)}`, all = Object.values(detail.states).reduce((sum, one) => sum + one, 0);
  const over = (detail.states.TERMINATED || 0) + (detail.states.ERROR || 0), show = { total_s: (s) => duration(s), pid: (pid) => pid || "", parameters: (text) => text };
  const bands = detail.bands, band = { times: bands.map((one) => one[0]), line0: bands.map((one) => one[1]), line1: bands.map((one) => one[2]), line2: bands.map((one) => one[3]) };
  return html`<div class="tiles">
      <${Tile} label="trials over" big=${count(over)} small=${total} share=${detail.total ? over / detail.total : null} colour="accent" />
      ${Object.entries(detail.states).map(([state, number]) => html`<${Tile} label=${state.toLowerCase()} big=${count(number)} small=${all ? `${Math.round((100 * number) / all)} %` : ""} tone=${state === "ERROR" ? "bad" : ""} />`)}
      ${detail.best.objective == null ? null : html`<${Tile} label=${`best ${detail.metric} (${detail.mode})`} big=${count(detail.best.objective)} small=${detail.best.name} />`}
    </div>
    ${detail.metric ? html`<div class="two">
      <${Panel} title=${detail.metric} note=${`the ${detail.top.length} best trials`}>${detail.top.length ? html`<${Chart} points=${together(detail.top)} lines=${detail.top.map(([name], number) => [`line${number}`, name, TONES[number % TONES.length]])} across="iteration" height=${220} legend=${false} />` : html`<p class="empty">nothing is reported yet</p>`}<//>
      <${Panel} title=${detail.metric} note="all trials: a tenth, the half and nine tenths of the values are below">${bands.length ? html`<${Chart} points=${band} lines=${[["line0", "a tenth", "c5"], ["line1", "the half", "c1"], ["line2", "nine tenths", "c5"]]} across="iteration" height=${220} />` : html`<p class="empty">nothing is reported yet</p>`}<//></div>`
      : html`<p class="dim">no metric was given: there is no best trial</p>`}
    ${detail.best.trial_id ? html`<${Panel} title="Best trial"><${Facts} of=${detail.best} /><//>` : null}
    <${Panel} title="Trials" note=${live && !run.end_time_ms ? "" : many(detail.trials.length, all)}>${live && !run.end_time_ms ? html`<${Part} page="tune" id=${params.id} what="trials" params=${params} set=${set} columns=${TRIALS} show=${show} />`
      : html`<${Table} data=${table(detail.trials, TRIALS)} ...${still} show=${show} />`}<//>
    <${Panel} title="Decisions" note=${`${detail.scheduler}, ${detail.search}: ${Object.entries(detail.decided).map(([what, number]) => `${count(number)} ${what}`).join(", ") || "none"}`}>
      <${Table} data=${table(detail.decisions, ["time_s", "trial", "decision", "by", "iteration", "value"])} ...${still} show=${{ time_s: clock, decision: (is) => html`<${State} is=${is} />` }} /><//>
    <p class="dim mono">${detail.path}</p>`;
}

export default function Tune({ data, event, params, set }) {
  return html`<${Runs} title="Search" page="tune" data=${data} event=${event} params=${params} set=${set} columns=${COLUMNS} none="no search has run in this session">
    ${(detail, run, live) => html`<${One} detail=${detail} run=${run} live=${live} params=${params} set=${set} />`}<//>`;
}
