// The events of one page while its tab is seen.
const AGAIN_MS = 2000;
const SILENT = "the dashboard does not answer";

// `heard` is called with each event, `failed` with why there is none. Returns what ends it. A browser asks again by itself
// where nobody answers, but not where it was refused: by another dashboard at the same port, until it is let in. What was
// asked before an end may be answered after it: that opens nothing, for a browser has six connections to a server.
export function follow(address, heard, failed) {
  let source = null, timer = 0, turn = 0;
  const open = () => {
    const mine = source = new EventSource(address);
    mine.onmessage = (message) => heard(JSON.parse(message.data));
    mine.onerror = () => {
      if (mine !== source) return;
      failed(SILENT);
      if (mine.readyState === EventSource.CLOSED) timer = setTimeout(ask, AGAIN_MS);
    };
  };
  const ask = async () => {
    const mine = turn;
    let why = "";
    try {
      const answer = await fetch("api/pages");
      if (!answer.ok) why = (await answer.json()).error || SILENT;
    } catch (problem) { why = SILENT; }
    if (mine !== turn) return;
    if (!why) return open();
    failed(why);
    timer = setTimeout(ask, AGAIN_MS);
  };
  const close = () => { turn += 1; clearTimeout(timer); if (source) source.close(); source = null; };
  const seen = () => { close(); if (!document.hidden) open(); };
  document.addEventListener("visibilitychange", seen);
  seen();
  return () => { document.removeEventListener("visibilitychange", seen); close(); };
}

// A piece of a text with what was written since, of which the last `most` characters are kept, and why there is nothing
// new. After a request that failed the piece is another object too: whoever follows it asks again.
export async function further(piece, ask, most) {
  try {
    const more = await ask();
    return [{ ...more, at: piece.at, text: (piece.text + more.text).slice(-most) }, ""];
  } catch (problem) { return [{ ...piece }, problem.message]; }
}
