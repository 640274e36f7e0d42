// Logs: the files of all nodes, and one of them as it is written.
import { further } from "../follow.js";
import { html, asked, bytes, count, link, Panel, Table, useEffect, useRef, useState } from "../ui.js";

const KEPT = 512 * 1024; // characters that are shown at a time
const TONES = { 31: "bad", 32: "good", 33: "warn", 34: "accent", 35: "c4", 36: "c3", 90: "dim", 91: "bad", 92: "good", 93: "warn", 94: "accent", 95: "c4", 96: "c3" };

// The colours of terminals as spans; every other control sequence is left out.
function spans(text) {
  const found = [];
  let tone = "", bold = false;
  for (const part of text.split(/(\x1b\[[0-?]*[ -/]*[@-~])/)) {
    if (!part.startsWith("\x1b")) { if (part) found.push([part.replace(/[\x00-\x08\x0b-\x1f\x7f]/g, ""), tone, bold]); continue; }
    if (!part.endsWith("m")) continue;
    for (const code of part.slice(2, -1).split(";").map(Number)) {
      if (code === 0) { tone = ""; bold = false; } else if (code === 1) bold = true; else if (code === 22) bold = false; else if (code === 39) tone = ""; else if (TONES[code]) tone = TONES[code];
    }
  }
  return found.map(([words, name, strong]) => (name || strong ? html`<span style=${{ color: name ? `var(--${name})` : "", fontWeight: strong ? 600 : "" }}>${words}</span>` : words));
}

// Of a line that was written over (a progress bar), the last state.
const last = (line) => { const parts = line.replace(/\r+$/, "").split("\r"); return parts[parts.length - 1]; };

const which = (params) => Object.fromEntries(["task", "actor", "worker", "node", "file", "suffix"].filter((name) => params[name]).map((name) => [name, params[name]]));

function One({ params, set }) {
  const asks = which(params), key = JSON.stringify(asks) + (params.around || "");
  const [piece, keep] = useState(null), [error, fail] = useState(""), [isFollowed, follow] = useState(!params.around), [found, find] = useState(null), [words, type] = useState("");
  const box = useRef(null);
  useEffect(() => {
    let on = true;
    keep(null); fail(""); find(null);
    const begin = params.around ? { at: Math.max(0, params.around - 8000) } : {};
    asked("logs/read", { ...asks, ...begin }).then((value) => on && keep(value), (problem) => on && fail(problem.message));
    return () => { on = false; };
  }, [key]);
  useEffect(() => {
    if (!piece || !isFollowed || piece.is_whole) return undefined;
    const timer = setTimeout(() => {
      if (document.hidden) { keep({ ...piece }); return; }
      further(piece, () => asked("logs/read", { ...asks, at: piece.end }), KEPT).then(([next, why]) => { fail(why); keep(next); });
    }, 1000);
    return () => clearTimeout(timer);
  }, [piece, isFollowed]);
  useEffect(() => { if (box.current && isFollowed) box.current.scrollTop = box.current.scrollHeight; }, [piece]);
  const earlier = () => asked("logs/read", { ...asks, before: piece.at }).then((more) => { follow(false); keep({ ...piece, at: more.at, text: (more.text + piece.text).slice(0, KEPT) }); }, (problem) => fail(problem.message));
  const search = (event) => { event.preventDefault(); if (words) asked("logs/search", { ...asks, text: words }).then(find, (problem) => fail(problem.message)); };
  const title = params.task ? `What task …${params.task.slice(-10)} wrote` : params.actor ? `What actor ${params.actor.slice(-10)} wrote` : params.worker ? `What worker ${params.worker} wrote` : `${params.file} of node ${params.node}`;
  const isStream = params.task || params.actor || params.worker, suffix = params.suffix || "out";
  return html`<${Panel} title=${title} note=${piece ? `${piece.file} of node ${piece.node}, ${bytes(piece.last)}${piece.is_written ? ", still written" : ""}` : ""}
      tools=${html`${isStream ? ["out", "err"].map((one) => html`<button class=${suffix === one ? "on" : ""} onClick=${() => set({ suffix: one })}>${one === "out" ? "stdout" : "stderr"}</button>`) : null}
        <button class=${isFollowed ? "on" : ""} onClick=${() => follow(!isFollowed)}>follow</button><button onClick=${() => set({ task: "", actor: "", worker: "", node: "", file: "", suffix: "", around: "" })}>close</button>`}>
    <form class="tools" onSubmit=${search}><input type="search" class="filter" placeholder="search in all of it   ( / )" aria-label="search" value=${words} onInput=${(event) => type(event.target.value)} /><button>search</button>
      ${found ? html`<span class="dim">${count(found.found.length)} lines in ${bytes(found.searched_bytes)}${found.is_whole ? "" : ", the newest"}</span>` : null}</form>
    ${found ? html`<div class="found">${found.found.map((one) => html`<a href=${link("logs", { ...asks, around: one.at })}><pre>${spans(one.text)}</pre></a>`)}</div>` : null}
    ${error ? html`<p class="empty">${error}</p>` : null}
    ${piece && piece.note ? html`<p class="dim">${piece.note}</p>` : null}
    ${piece ? html`<div class="log" ref=${box} tabindex="0">${piece.at > piece.first ? html`<button onClick=${earlier}>earlier, ${bytes(piece.at - piece.first)} more</button>` : null}
      <pre>${piece.text ? piece.text.split("\n").map((line) => [...spans(last(line)), "\n"]) : html`<span class="dim">nothing was written</span>`}</pre></div>` : error ? null : html`<p class="empty">Asking</p>`}<//>`;
}

export default function Logs({ data, params, set }) {
  const isOne = params.task || params.actor || params.worker || params.file;
  return html`${isOne ? html`<${One} params=${params} set=${set} />` : null}
    <${Panel} title="Log files"><${Table} data=${data} params=${params} set=${set} open=${(row) => set({ node: row.node_id, file: row.file, task: "", actor: "", worker: "", around: "" })}
      show=${{ is_alive: (is) => (is ? "alive" : "ended"), worker_id: (id) => id || "" }} /><//>`;
}
