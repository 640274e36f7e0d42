// Nodes: a cell for each, coloured by one kind of use; and all that is known of one.
import { html, Facts, Panel, State, Table, bytes, count, link, percent, useAsked } from "../ui.js";

const COLUMNS = ["node_id", "node_name", "state", "cpu", "memory_used_bytes", "store_used_bytes", "store_spilled_bytes", "workers", "waiting", "state_message"];
const level = (value) => (value === -1 ? "hdead" : value === -2 ? "hsilent" : value === -3 ? "hnone" : `h${Math.min(5, Math.ceil(value / 20))}`);
const said = (value) => (value === -1 ? "dead" : value === -2 ? "silent" : value === -3 ? "none, or not known" : percent(value / 100));

function One({ id, close }) {
  const { value, error } = useAsked("nodes/one", { id }, id);
  const workers = value && { columns: ["worker_id", "worker_type", "state", "pid", "is_actor", "leased_by", "resources"], rows: value.workers, total: value.workers.length, matching: value.workers.length, from: 0 };
  return html`<${Panel} title=${`Node ${id}`} tools=${html`<button onClick=${close}>close</button>`}>
    ${error ? html`<p class="empty">${error}</p>` : !value ? html`<p class="empty">Asking</p>` : html`
      <${Facts} of=${value.node} skip=${["labels"]} />
      <h3>Workers</h3><${Table} data=${workers} params=${{}} set=${() => {}} find=${false} show=${{ is_actor: (is) => (is ? "actor" : "") }} />
      <h3>Log files</h3><p>${value.files.map((file) => html`<a class="tag" href=${link("logs", { node: file.node_id, file: file.file })}>${file.file} ${bytes(file.size_bytes)}</a> `)}</p>`}
  <//>`;
}

export default function Nodes({ data, params, set }) {
  const of = (used, most) => (_, row) => (row[most] ? html`${bytes(row[used])} <span class="dim">of ${bytes(row[most])}</span>` : ""); // else nobody has told
  const cpu = (_, row) => html`${count(row.cpu)} <span class="dim">of ${count(row.cpus)}</span>`;
  const gpu = (_, row) => (row.gpus ? html`${count(row.gpu)} <span class="dim">of ${count(row.gpus)}</span>` : "");
  const columns = data.rows.some((row) => row.gpus) ? [...COLUMNS.slice(0, 4), "gpu", ...COLUMNS.slice(4)] : COLUMNS;
  return html`<${Panel} title="Use of each node" tools=${data.heats.map((heat) => html`<button class=${heat === data.heat ? "on" : ""} onClick=${() => set({ heat })}>${heat}</button>`)}>
      <div class="cells ${data.cells.length > 400 ? "many" : ""}">${data.cells.map(([id, value]) => html`<a href=${link("nodes", { heat: data.heat, id })} class=${level(value)} title=${`node ${id}: ${said(value)}`} aria-label=${`node ${id}: ${said(value)}`}></a>`)}</div>
      <div class="legend" style=${{ marginTop: "8px" }}>${[0, 20, 40, 60, 80, 100].map((value) => html`<span><i class=${level(value)}></i>${value} %</span>`)}<span><i class="hdead"></i>dead</span><span><i class="hsilent"></i>silent</span></div>
    <//>
    ${params.id ? html`<${One} id=${params.id} close=${() => set({ id: "" })} />` : null}
    <${Panel} title="Nodes"><${Table} data=${data} columns=${columns} params=${params} set=${set} open=${(row) => set({ id: row.node_id })}
      show=${{ state: (state) => html`<${State} is=${state} />`, cpu, gpu, memory_used_bytes: of("memory_used_bytes", "memory_limit_bytes"), store_used_bytes: of("store_used_bytes", "store_capacity_bytes") }} /><//>`;
}
