// Data: datasets that flow, and of the chosen run its operators, what they wait for, and what memory they may use.
import { html, Bar, Panel, State, Table, Tile, bytes, count } from "../ui.js";
import { Runs, table } from "../runs.js";

const COLUMNS = ["name", "state", "done", "words", "left_s", "start_time_ms", "end_time_ms", "why"];
const OPERATORS = ["name", "state", "rows", "rows_s", "all_bytes", "blocks", "tasks", "queued", "waits", "actors", "spilled_bytes", "failed"];
const still = { find: false, params: {}, set: () => {} };
const of = (used, most) => (most ? `of ${bytes(most)}` : "");

function One({ detail }) {
  const show = { state: (is) => html`<${State} is=${is} />`, rows_s: (rate) => (rate ? `${count(Math.round(rate))} /s` : ""), waits: (text) => text, name: (text) => html`<span title=${text}>${text.length > 60 ? `${text.slice(0, 59)}…` : text}</span>` };
  const room = (used, most) => (_, row) => html`${bytes(row[used])} <span class="dim">of ${bytes(row[most])}</span><${Bar} parts=${[[row[most] ? row[used] / row[most] : 0, "accent"]]} />`;
  return html`<div class="tiles">
      <${Tile} label="rows out" big=${count(detail.rows)} small=${bytes(detail.all_bytes)} />
      <${Tile} label="parts read" big=${count(detail.parts_done)} small=${detail.parts == null ? "of how many is not known yet" : `of ${count(detail.parts)}`} share=${detail.parts ? detail.parts_done / detail.parts : null} />
      <${Tile} label="blocks in the store" big=${bytes(detail.held_bytes)} small=${of(detail.held_bytes, detail.limit_bytes)} share=${detail.limit_bytes ? detail.held_bytes / detail.limit_bytes : null} />
      <${Tile} label="the most at a time" big=${bytes(detail.peak_bytes)} small=${detail.spilled_bytes ? `about ${bytes(detail.spilled_bytes)} spilled` : "nothing spilled"} />
      <${Tile} label="CPUs" big=${count(detail.cpus)} small=${`of ${count(detail.cpus_limit)}`} share=${detail.cpus_limit ? detail.cpus / detail.cpus_limit : null} />
      ${detail.gpus_limit ? html`<${Tile} label="GPUs" big=${count(detail.gpus)} small=${`of ${count(detail.gpus_limit)}`} share=${detail.gpus / detail.gpus_limit} />` : null}
    </div>
    ${detail.stands ? html`<div class="note">${detail.stands}</div>` : null}
    <${Panel} title="Operators"><${Table} data=${table(detail.operators, OPERATORS)} ...${still} show=${show} /><//>
    ${detail.nodes.length ? html`<${Panel} title="Budgets" note="what the run holds of each node, and may hold"><${Table} data=${table(detail.nodes, ["node_id", "held_bytes", "reserved_bytes", "heap_bytes"])} ...${still}
      show=${{ held_bytes: room("held_bytes", "store_bytes"), heap_bytes: room("heap_bytes", "heap_limit_bytes") }} /><//>` : null}
    ${detail.stats ? html`<${Panel} title="Statistics"><pre>${detail.stats}</pre><//>` : null}`;
}

export default function Data({ data, event, params, set }) {
  return html`<${Runs} title="Dataset" page="data" data=${data} event=${event} params=${params} set=${set} columns=${COLUMNS} none="no dataset has flowed for longer than a moment in this session">
    ${(detail) => html`<${One} detail=${detail} />`}<//>`;
}
