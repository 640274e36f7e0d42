// The frame around the pages: who may come in, which page is open, its feed, and the keys.
import { render } from "./vendor/preact.js";
import { html, useEffect, useRef, useState, duration } from "./ui.js";
import { follow } from "./follow.js";

const OLD_S = 30; // an answer that is older is said to be old

// ---------------------------------------------------------------- the address: #/page?name=value

function place() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  return { page: path || "now", params: Object.fromEntries(new URLSearchParams(query || "")) };
}

function go(page, params, replace) {
  const kept = Object.entries(params || {}).filter(([, value]) => value !== "" && value != null);
  const hash = `#/${page}${kept.length ? `?${new URLSearchParams(kept)}` : ""}`;
  if (replace) { history.replaceState(null, "", hash); window.dispatchEvent(new HashChangeEvent("hashchange")); } else location.hash = hash;
}

// ---------------------------------------------------------------- the feed

// The newest event of a page.
function useFeed(page, params, query) {
  const [event, keep] = useState(null), [gone, setGone] = useState("");
  useEffect(() => {
    let isFirst = true;
    if (!page) return undefined;
    return follow(`api/feed/${page}?${new URLSearchParams(params)}`, (found) => {
      if (isFirst && window.performance) { performance.mark(`hpc-${page}`); isFirst = false; }
      setGone("");
      keep(found);
    }, setGone);
  }, [page, query]);
  return [event && event.page === page ? event : null, gone, event];
}

// ---------------------------------------------------------------- the frame

function useTick() {
  const [, turn] = useState(0);
  useEffect(() => { const timer = setInterval(() => turn((n) => n + 1), 1000); return () => clearInterval(timer); }, []);
}

function theme(next) {
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const kept = localStorage.getItem("hpc-theme") || system;
  const now = next ? (kept === "dark" ? "light" : "dark") : kept;
  if (next) localStorage.setItem("hpc-theme", now);
  document.documentElement.dataset.theme = now;
}

function Head({ event, latest, gone, onTheme, onHelp }) {
  useTick();
  const session = (latest && latest.session) || {}, skew = useRef({});
  if (event && skew.current.event !== event) skew.current = { event, at: Date.now() / 1e3 - event.now_s };
  const now = Date.now() / 1e3 - (skew.current.at || 0);
  const ages = event ? Object.values(event.about).map((one) => now - one.at_s) : [];
  const age = ages.length ? Math.max(0, Math.min(...ages)) : null;
  const left = session.time_left_s == null || !latest ? null : session.time_left_s - (now - latest.now_s);
  const ended = latest && latest.ended;
  const [tone, text] = ended ? ["gone", "the session has ended"] : gone ? ["gone", gone]
    : age == null ? ["old", "asking"] : age > OLD_S ? ["old", `${duration(Math.round(age))} old`] : ["", `live, ${Math.round(age)} s ago`];
  return html`<header><span class="name">hpc</span><span class="dim">session ${session.session || ""}</span>
    ${session.scheduler ? html`<span class="dim">${session.scheduler} ${session.job_id}</span>` : null}
    ${left == null ? null : html`<span class=${left < 600 ? "tag warn" : "dim"}>${duration(Math.max(0, Math.round(left)))} left</span>`}
    <span class="grow"></span><span class="state ${tone}" role="status">${text}</span>
    <button onClick=${onTheme} title="dark or light (t)">◐</button><button onClick=${onHelp} title="keys (?)">?</button></header>`;
}

function Notes({ event }) {
  const session = event.session || {}, about = Object.entries(event.about);
  const notes = [];
  if (event.ended) notes.push(["bad", event.ended]);
  for (const [name, one] of about) {
    if (one.error && one.error !== event.ended) notes.push(["bad", `${name}: ${one.error}`]);
    for (const said of one.said) notes.push(["", said]);
  }
  if (session.silent && session.silent.length) notes.push(["", `no answer in time from ${session.silent.join(", ")}: what they know is missing here`]);
  return notes.map(([tone, text]) => html`<div class="note ${tone}">${text}</div>`);
}

function Help({ pages, close }) {
  const keys = [...pages.map((page) => [page.key, page.title]), ["/", "filter"], ["j k", "next and last row"], ["Enter", "open a row"], ["t", "dark or light"], ["Esc", "close, back"]];
  return html`<div class="help" onClick=${close} role="dialog" aria-label="keys"><div><dl>${keys.map(([key, what]) => html`<dt class="mono">${key}</dt><dd>${what}</dd>`)}</dl></div></div>`;
}

function App({ pages }) {
  const [at, move] = useState(place()), [View, setView] = useState(null), [help, setHelp] = useState(false), [, again] = useState(0);
  const page = pages.find((one) => one.name === at.page) || pages[0];
  const { q, ...rest } = at.params, [typed, setTyped] = useState(q || "");
  useEffect(() => { const timer = setTimeout(() => setTyped(q || ""), 200); return () => clearTimeout(timer); }, [q]);
  const asks = { ...rest, ...(typed ? { q: typed } : {}) };
  const [event, gone, latest] = useFeed(page.name, asks, `${page.name} ${new URLSearchParams(asks)}`);
  useEffect(() => { const moved = () => move(place()); addEventListener("hashchange", moved); return () => removeEventListener("hashchange", moved); }, []);
  useEffect(() => {
    document.title = `${page.title} · hpc`;
    setView(null);
    import(`./pages/${page.name}.js`).then((module) => setView(() => module.default));
  }, [page.name]);
  const set = (changes, replace) => go(page.name, { ...at.params, ...changes }, replace);
  const onTheme = () => { theme(true); again((n) => n + 1); };
  const pressed = useRef(null); // one listener for all states: a key that comes before the next effect sees the newest
  pressed.current = (event) => {
    const isTyping = /INPUT|SELECT|TEXTAREA/.test(event.target.tagName);
    if (event.key === "Escape") { if (help) setHelp(false); else if (isTyping) event.target.blur(); else if (at.params.id) set({ id: "" }); return; }
    if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
    const other = pages.find((one) => one.key === event.key);
    if (other) go(other.name);
    else if (event.key === "?") setHelp(!help);
    else if (event.key === "t") onTheme();
    else if (event.key === "/") { const box = document.querySelector(".filter"); if (box) { event.preventDefault(); box.focus(); } }
    else if (event.key === "j" || event.key === "k") {
      const rows = [...document.querySelectorAll("tr.pick")], here = rows.indexOf(document.activeElement);
      const next = rows[Math.max(0, Math.min(rows.length - 1, here + (event.key === "j" ? 1 : -1)))];
      if (next) { next.focus(); next.scrollIntoView({ block: "nearest" }); }
    }
  };
  useEffect(() => { addEventListener("keydown", (event) => pressed.current(event)); }, []);
  const isThere = event && Object.keys(event.data).length > 0;
  return html`<div class="shell"><${Head} event=${event} latest=${latest} gone=${gone} onTheme=${onTheme} onHelp=${() => setHelp(true)} />
    <nav aria-label="pages"><div>${pages.map((one) => html`<a href="#/${one.name}" class=${one === page ? "on" : ""} aria-current=${one === page ? "page" : undefined}>${one.title}<kbd>${one.key}</kbd></a>`)}</div></nav>
    <main data-page=${isThere && View ? page.name : ""}>${event ? html`<${Notes} event=${event} />` : null}
      ${isThere && View ? html`<${View} data=${event.data} event=${event} params=${at.params} set=${set} go=${go} />` : html`<p class="empty">Asking the session</p>`}</main>
    ${help ? html`<${Help} pages=${pages} close=${() => setHelp(false)} />` : null}</div>`;
}

// ---------------------------------------------------------------- coming in

async function begin() {
  theme(false);
  const root = document.getElementById("app"), say = (text) => render(html`<p class="first">${text}</p>`, root);
  const token = location.hash.replace(/^#/, "");
  if (token && !token.startsWith("/")) {
    history.replaceState(null, "", location.pathname);
    const answer = await fetch("api/enter", { method: "POST", body: token, headers: { "x-hpc": "1" } });
    if (!answer.ok) return say((await answer.json()).error);
  }
  const answer = await fetch("api/pages");
  if (!answer.ok) return say((await answer.json()).error);
  root.textContent = "";
  render(html`<${App} pages=${await answer.json()} />`, root);
}

begin().catch((error) => { document.getElementById("app").textContent = `The dashboard does not answer: ${error.message}`; });
