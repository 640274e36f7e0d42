// Serve: the applications of a service, and of the chosen one its rates, latencies, queue, replicas and canaries.
import { html, Bar, Chart, Panel, State, Table, Tile, count, percent } from "../ui.js";
import { Runs, many, table, together } from "../runs.js";

const COLUMNS = ["name", "state", "words", "start_time_ms", "end_time_ms", "why"];
const DEPLOYMENTS = ["name", "state", "replicas", "per_second", "p50_s", "p99_s", "ongoing", "queued", "requests", "errors", "rejected", "why"];
const REPLICAS = ["replica", "deployment", "state", "node_id", "pid", "per_second", "p50_s", "p99_s", "ongoing", "requests", "errors", "rejected", "cancelled"];
const SPLIT = ["app", "role", "share", "requests", "errors", "p99_s"];
const TONES = ["c1", "c3", "c2"];
const still = { find: false, params: {}, set: () => {} };
const ms = (s) => (s == null ? "" : `${s < 0.01 ? (s * 1e3).toFixed(2) : count(Math.round(s * 1e3))} ms`);
const rate = (n) => (n ? `${count(n)} /s` : "");

function One({ detail }) {
  const show = { per_second: rate, p50_s: ms, p99_s: ms, why: (text) => text, state: (is) => html`<${State} is=${is} />`,
    share: (part) => (part == null ? "a copy of each" : html`${percent(part)}<${Bar} parts=${[[part, "accent"]]} />`) };
  const target = { ...show, replicas: (have, row) => (have === row.target ? count(have) : `${count(have)} of ${count(row.target)}`) };
  return html`<div class="tiles">
      <${Tile} label="requests" big=${rate(detail.per_second) || "none now"} small=${`${count(detail.requests)} in all`} />
      <${Tile} label="half took at most" big=${ms(detail.p50_s) || "-"} small=${detail.p99_s == null ? "no requests lately" : `99 %: ${ms(detail.p99_s)}`} />
      <${Tile} label="failed" big=${count(detail.errors)} small="with an error of the code" />
      <${Tile} label="run now" big=${count(detail.ongoing)} small=${detail.queued ? `${count(detail.queued)} wait` : "none waits"} />
    </div>
    ${detail.rolled_back ? html`<div class="note bad">${detail.rolled_back}</div>` : null}
    <div class="two">${detail.curves.map(([name, xs, ys], number) => html`<${Panel} title=${name}><${Chart} points=${together([[name, xs, ys]])} lines=${[["line0", name, TONES[number % TONES.length]]]} across="seconds" height=${130} /><//>`)}</div>
    <${Panel} title="Deployments" note=${detail.route ? `route ${detail.route}, which ${detail.ingress} answers` : "without a route"}>
      <${Table} data=${table(detail.deployments, DEPLOYMENTS)} ...${still} show=${target} /><//>
    ${detail.split.length ? html`<${Panel} title="Split" note=${detail.sticky ? `sticky by ${detail.sticky}` : "requests of the route"}><${Table} data=${table(detail.split, SPLIT)} ...${still} show=${show} /><//>` : null}
    <${Panel} title="Replicas" note=${many(detail.replicas.length, detail.deployments.reduce((sum, row) => sum + row.replicas, 0))}>
      <${Table} data=${table(detail.replicas, REPLICAS)} ...${still} show=${show} /><//>
    ${detail.doors.length ? html`<${Panel} title="Doors"><pre>${detail.doors.join("\n")}</pre><//>` : null}`;
}

export default function Serve({ data, event, params, set }) {
  return html`<${Runs} title="Application" page="serve" data=${data} event=${event} params=${params} set=${set} columns=${COLUMNS} none="no application is served in this session">
    ${(detail) => html`<${One} detail=${detail} />`}<//>`;
}
