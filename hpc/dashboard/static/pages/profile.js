// Profile: sample one process or all workers, and see which calls take the time.
import { html, asked, count, duration, Panel, percent, useEffect, useState } from "../ui.js";

const ROW = 20, LEAST = 0.0015; // height of a call; share of the width below which one is not drawn
const short = (name) => name.replace(/ \(.*\)$/, "");

// The calls of a tree as rectangles: [node, from, width, depth], shares of the whole.
function laid(root, field) {
  const found = [];
  const lay = (node, from, width, depth) => {
    found.push([node, from, width, depth]);
    let at = from;
    for (const one of [...node.below].sort((a, b) => b[field] - a[field])) {
      const wide = node[field] ? (width * one[field]) / node[field] : 0;
      if (wide >= LEAST) lay(one, at, wide, depth + 1);
      at += wide;
    }
  };
  lay(root, 0, 1, 0);
  return found;
}

const hue = (name) => `c${1 + ([...short(name)].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 9973, 7) % 4)}`;

function Flame({ tree, field }) {
  const [path, zoom] = useState([]), [over, hover] = useState(null);
  useEffect(() => zoom([]), [tree]);
  let root = tree;
  for (const name of path) root = root.below.find((one) => one.name === name) || root;
  const rects = laid(root, field), deep = Math.max(...rects.map((rect) => rect[3])) + 1, whole = tree[field];
  const open = (node) => {
    const find = (at, names) => (at === node ? names : at.below.reduce((found, one) => found || find(one, [...names, one.name]), null));
    zoom(find(tree, []) || []);
  };
  const about = over || root;
  return html`<div>
    <div class="tools">${path.length ? html`<button onClick=${() => zoom([])}>all</button><button onClick=${() => zoom(path.slice(0, -1))}>one up</button>` : null}
      <span><b>${about.name}</b> <span class="dim">${percent(whole ? about[field] / whole : 0)}, ${duration(about.cpu_s)} on CPUs, ${duration(about.passed_s)} passed</span></span></div>
    <div class="flame" style=${{ height: `${deep * ROW}px` }} onMouseLeave=${() => hover(null)}>${rects.map(([node, from, width, depth]) => html`<button
        style=${{ left: `${100 * from}%`, width: `${100 * width}%`, top: `${depth * ROW}px`, background: depth ? `var(--${hue(node.name)})` : "var(--c5)" }}
        onMouseEnter=${() => hover(node)} onFocus=${() => hover(node)} onClick=${() => open(node)} aria-label=${`${node.name}, ${percent(whole ? node[field] / whole : 0)}`}>${width > 0.03 ? short(node.name) : ""}</button>`)}</div></div>`;
}

export default function Profile({ data, params, set }) {
  const [run, begin] = useState(null), [found, keep] = useState(null), [error, fail] = useState("");
  const seconds = params.seconds || "5", field = params.by === "passed" ? "passed_s" : "cpu_s";
  const start = () => {
    fail(""); keep(null);
    asked("profile/begin", { worker: params.worker || "", seconds }, { method: "POST" }).then(begin, (problem) => fail(problem.message));
  };
  const asks = run && { workers: run.workers.join(","), name: params.name || "" };
  useEffect(() => {
    if (!run) return undefined;
    let on = true, timer = 0;
    const look = () => asked("profile/result", asks).then((value) => {
      if (!on) return;
      keep(value);
      if (value.is_running) timer = setTimeout(look, 1000);
    }, (problem) => on && fail(problem.message));
    timer = setTimeout(look, found ? 0 : 1000);
    return () => { on = false; clearTimeout(timer); };
  }, [run, params.name]);
  const save = () => asked("profile/speedscope", asks).then((value) => {
    const to = document.createElement("a");
    to.href = URL.createObjectURL(new Blob([JSON.stringify(value)], { type: "application/json" }));
    to.download = "profile.speedscope.json";
    to.click();
    URL.revokeObjectURL(to.href);
  }, (problem) => fail(problem.message));
  const kind = (row) => (row.worker_type === "DRIVER" ? "driver" : row.is_actor ? "actor" : "worker");
  const whole = found && found.tree[field];
  return html`<${Panel} title="Profile" note="each process samples its own stacks 100 times a second: no ptrace, about 1 % of its time">
      <div class="tools">
        <label>of <select value=${params.worker || ""} onChange=${(event) => set({ worker: event.target.value })}><option value="">all workers and drivers</option>
          ${data.processes.map((row) => html`<option value=${row.worker_id}>${kind(row)} ${row.worker_id}, pid ${row.pid}</option>`)}</select></label>
        <label>for <select value=${seconds} onChange=${(event) => set({ seconds: event.target.value })}>${["2", "5", "15", "30"].map((s) => html`<option value=${s}>${s} s</option>`)}</select></label>
        <button class="on begin" disabled=${found && found.is_running} onClick=${start}>${found && found.is_running ? `sampling, ${duration(Math.round(found.passed_s))}` : "begin"}</button>
        ${found ? html`<span class="dim">${count(found.processes.length)} processes, ${count(found.samples)} samples; the looking took ${duration(found.sampler_cpu_s)} of CPU</span>` : run && !error ? html`<span class="dim">sampling</span>` : null}
      </div>
      ${run && run.silent.length ? html`<p class="note">no answer from ${run.silent.join(", ")}: native code holds the interpreter's lock there, or the process is stopped</p>` : null}
      ${error ? html`<p class="note bad">${error}</p>` : null}<//>
    ${found ? html`<${Panel} title="Where the time goes" tools=${html`<select aria-label="task" value=${params.name || ""} onChange=${(event) => set({ name: event.target.value })}><option value="">all tasks</option>${found.names.map((name) => html`<option value=${name}>${name}</option>`)}</select>
        <button class=${field === "cpu_s" ? "on" : ""} onClick=${() => set({ by: "" })}>on CPUs</button><button class=${field === "passed_s" ? "on" : ""} onClick=${() => set({ by: "passed" })}>time that passed</button><button onClick=${save}>speedscope file</button>`}>
        ${whole ? html`<${Flame} tree=${found.tree} field=${field} />` : html`<p class="empty">${found.is_running ? "nothing was seen yet" : field === "cpu_s" ? "no code of the user's was on a CPU" : "no code of the user's ran"}</p>`}<//>
      <${Panel} title="Calls"><div class="scroll"><table><thead><tr><th class="num">CPU, itself</th><th class="num">CPU, with calls</th><th class="num">passed, itself</th><th class="num">passed, with calls</th><th>call</th></tr></thead>
        <tbody>${found.calls.map((one) => html`<tr><td class="num">${duration(one.own_cpu_s)}</td><td class="num">${duration(one.all_cpu_s)}</td><td class="num">${duration(one.own_passed_s)}</td><td class="num">${duration(one.all_passed_s)}</td><td class="mono">${one.name}</td></tr>`)}</tbody></table></div><//>` : null}`;
}
