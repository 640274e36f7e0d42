// Now: what runs, what waits and why, what is used and what is left.
import { html, Bar, Chart, Panel, Tile, bytes, count, duration, link, percent, words } from "../ui.js";

const SHARES = [["CPU", "CPU", "c1"], ["GPU", "GPU", "c2"], ["memory", "memory", "c3"], ["store", "object store", "c4"]];
const WORK = [["workers_tasks", "running tasks", "c1"], ["workers_actors", "actors", "c3"], ["workers_idle", "idle workers", "c5"], ["unfinished", "unfinished tasks", "c2"]];
const SPANS = [["", "10 min"], ["all", "all"]];

function Spent({ of, event }) {
  if (!of || !of.seen_s) return null;
  const hours = (s) => count(+(s / 3600).toPrecision(3)), left = event.session.time_left_s;
  const tile = (label, all, given) => (all ? html`<${Tile} label=${label} big=${hours(all)} small=${`${hours(given)} given to work, ${hours(all - given)} idle`} share=${given / all} colour="accent" />` : null);
  return html`${tile("core hours", of.cpu_s, of.cpu_given_s)}${tile("GPU hours", of.gpu_s, of.gpu_given_s)}
    ${left == null ? null : html`<${Tile} label="walltime left" big=${duration(Math.round(left))} small=${`after ${duration(Math.round(of.seen_s - of.began_s))}`} />`}`;
}

function Tasks({ rows, counted }) {
  if (!rows.length) return html`<p class="empty">${counted ? "no task has run yet" : "nothing was counted yet"}</p>`;
  return html`<div class="scroll"><table><thead><tr><th>name</th><th style=${{ width: "28%" }}>progress</th><th class="num">running</th><th class="num">waiting</th>
    <th class="num">finished</th><th class="num">failed</th><th class="num">half below</th><th class="num">nine of ten below</th></tr></thead><tbody>
    ${rows.map((row) => {
      const all = row.waiting + row.running + row.finished + row.failed;
      return html`<tr><td><a href=${link("tasks", { q: row.name })}>${row.name}</a></td>
        <td><${Bar} parts=${[[row.finished / all, "good"], [row.failed / all, "bad"], [row.running / all, "accent"]]} /></td>
        <td class="num">${row.running || ""}</td><td class="num">${row.waiting ? count(row.waiting) : ""}</td><td class="num">${count(row.finished)}</td>
        <td class="num" style=${row.failed ? { color: "var(--bad)" } : {}}>${row.failed || ""}</td><td class="num">${duration(row.p50_s)}</td><td class="num">${duration(row.p90_s)}</td></tr>`;
    })}</tbody></table></div>`;
}

function Waiting({ data }) {
  const rows = data.waiting, groups = data.groups;
  if (!rows.length && !groups.length) return html`<p class="empty">nothing waits for a place</p>`;
  return html`<div class="scroll"><table><thead><tr><th class="num">how many</th><th>what</th><th>wants</th><th>why</th></tr></thead><tbody>
    ${rows.map((row) => html`<tr><td class="num">${count(row.tasks + row.actors)}</td><td>${row.names.join(", ")}</td><td>${words(row.required_resources) || "nothing"}${row.strategy === "DEFAULT" ? "" : `, ${row.strategy}`}</td>
      <td class="wrap" style=${row.is_infeasible ? { color: "var(--bad)" } : {}}>${row.why}</td></tr>`)}
    ${groups.map((group) => html`<tr><td class="num">${group.missing}</td><td>placement group ${group.name}</td><td>${group.strategy}, ${group.bundles.length} bundles</td><td class="wrap">${group.why}</td></tr>`)}
    </tbody></table></div>`;
}

export default function Now({ data, event, params, set }) {
  const cpu = data.resources.CPU, gpu = data.resources.GPU, size = data.bytes, nodes = data.nodes;
  const others = Object.entries(data.resources).filter(([name]) => !["CPU", "GPU"].includes(name) && !name.startsWith("accelerator_type:"));
  const course = data.course, shares = SHARES.filter(([name]) => course[name] && course[name].some((one) => one != null));
  const spans = SPANS.map(([span, words]) => html`<button class=${(params.span || "") === span ? "on" : ""} onClick=${() => set({ span })}>${words}</button>`);
  const bad = [nodes.dead ? `${nodes.dead} dead` : "", nodes.suspect ? `${nodes.suspect} silent` : ""].filter(Boolean).join(", ");
  return html`<div class="tiles">
      <${Tile} label="nodes" big=${count(nodes.alive)} small=${bad || "alive"} tone=${bad ? "bad" : ""} />
      ${cpu ? html`<${Tile} label="CPUs taken" big=${count(cpu.used)} small=${`of ${count(cpu.total)}`} share=${cpu.used / cpu.total} colour="accent" />` : null}
      ${gpu ? html`<${Tile} label="GPUs taken" big=${count(gpu.used)} small=${`of ${count(gpu.total)}`} share=${gpu.used / gpu.total} colour="accent" />` : null}
      ${size.memory_limit_bytes ? html`<${Tile} label="memory" big=${bytes(size.memory_used_bytes)} small=${`of ${bytes(size.memory_limit_bytes)}`} share=${size.memory_used_bytes / size.memory_limit_bytes} />` : null}
      ${size.store_capacity_bytes ? html`<${Tile} label="object stores" big=${bytes(size.store_used_bytes)} small=${size.store_spilled_bytes ? `${bytes(size.store_spilled_bytes)} spilled` : `of ${bytes(size.store_capacity_bytes)}`} share=${size.store_used_bytes / size.store_capacity_bytes} />` : null}
      <${Tile} label="workers" big=${count(data.workers.workers)} small=${`${data.workers.tasks} with tasks, ${data.workers.actors} actors`} />
      <${Tile} label="failed workers" big=${count(data.failed_workers)} small=${data.failed_workers ? html`<a href="#/logs">their logs</a>` : "none"} tone=${data.failed_workers ? "bad" : ""} />
      <${Spent} of=${data.spent} event=${event} />
      ${others.slice(0, 3).map(([name, kind]) => html`<${Tile} label=${name} big=${count(kind.used)} small=${`of ${count(kind.total)}`} share=${kind.total ? kind.used / kind.total : 0} colour="accent" />`)}
    </div>
    ${data.growth ? html`<div class="note">grows from ${data.growth.least} to ${data.growth.most} nodes${data.growth.why ? `: ${data.growth.why}` : ""}${data.growth.refusal ? `; none came lately: ${data.growth.refusal}` : ""}</div>` : null}
    <div class="two">
      <${Panel} title="In use" tools=${spans}><${Chart} points=${course} lines=${shares} form=${percent} most=${1} /><//>
      <${Panel} title="Work"><${Chart} points=${course} lines=${WORK} /><//>
    </div>
    <${Panel} title="Tasks by name" note="what has ended is counted since the session began"><${Tasks} rows=${data.tasks} counted=${data.counted} /><//>
    <${Panel} title="Waiting, and why" note=${data.waiting_kinds > data.waiting.length ? `${data.waiting.length} of ${data.waiting_kinds} kinds` : ""}><${Waiting} data=${data} /><//>`;
}
