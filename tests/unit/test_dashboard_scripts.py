"""Parts of the dashboard's pages that need no browser: moments in the clock of its machine, and who follows a page."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import hpc.dashboard

STATIC = Path(hpc.dashboard.__file__).parent / "static"
#: Half past midnight on the fourth of March, two hours ahead of UTC: there it is still the third.
TIMES = """
globalThis.window = globalThis;
const { when } = await import(process.argv[1]);
console.log([when(Date.UTC(2025, 2, 3, 22, 30)), when(0), when(Date.now()).length].join("|"));
"""
#: A page that was refused asks whether it is let in. It is left, or hidden and seen, before the answer comes.
FOLLOWING = """
const { follow } = await import(process.argv[1]);
const open = new Set(), made = [], answers = [], said = [];
globalThis.EventSource = class {
  static CLOSED = 2;
  constructor(address) { this.address = address; this.readyState = 1; open.add(this); made.push(this); }
  close() { this.readyState = 2; open.delete(this); }
};
const tab = { hidden: false, heard: new Set(), addEventListener: (_, call) => tab.heard.add(call),
  removeEventListener: (_, call) => tab.heard.delete(call) };
globalThis.document = tab;
globalThis.fetch = () => new Promise((done) => answers.push(done));
const due = [];
globalThis.setTimeout = (call) => due.push(call);
globalThis.clearTimeout = () => {};
const rest = () => new Promise((done) => setImmediate(done));
const refuse = (one) => { one.close(); one.onerror(); due.pop()(); };
const told = [];
const left = follow("a", (event) => told.push(event.n), (why) => said.push(why));
made[0].onmessage({ data: '{"n": 1}' });
refuse(made[0]);
left();
const stays = follow("b", (event) => told.push(event.n), (why) => said.push(why));
answers.pop()({ ok: true });
await rest();
console.log([...open].map((one) => one.address).join());
refuse(made[1]);
tab.hidden = true; tab.heard.forEach((call) => call());
tab.hidden = false; tab.heard.forEach((call) => call());
answers.pop()({ ok: true });
await rest();
console.log(open.size, told.join(), tab.heard.size);
refuse(made[2]);
answers.pop()({ ok: false, json: async () => ({ error: "no cookie" }) });
await rest();
due.pop()();
answers.pop()({ ok: true });
await rest();
console.log(open.size, said.at(-1));
stays();
console.log(open.size, tab.heard.size);
"""
#: A log is followed: once the node does not answer.
LOG = """
const { further } = await import(process.argv[1]);
const piece = { at: 3, end: 7, text: "abcd" };
const [same, why] = await further(piece, async () => { throw new Error("no answer"); }, 6);
const [next, none] = await further(same, async () => ({ at: 7, end: 11, text: "efgh" }), 6);
console.log([same !== piece, same.text, why, next.at, next.end, next.text, none].join("|"));
"""


pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="there is no node")


@pytest.fixture
def static(tmp_path: Path) -> Path:
    """The pages' files where node takes them for modules, as browsers do."""
    (tmp_path / "package.json").write_text('{"type": "module"}')
    return shutil.copytree(STATIC, tmp_path / "static")


def printed(program: str, file: Path, **env: str) -> str:
    command = ["node", "--input-type=module", "-e", program, str(file)]
    around = {"PATH": os.environ["PATH"], **env}
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60.0, env=around, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_a_moment_of_another_day_has_the_day_of_its_own_clock(static):
    assert printed(TIMES, static / "ui.js", TZ="Etc/GMT-2") == "03-04 00:30:00||8"


def test_a_page_has_one_connection_whatever_is_answered_late(static):
    assert printed(FOLLOWING, static / "follow.js").splitlines() == ["b", "1 1 1", "1 no cookie", "0 0"]


def test_a_log_is_followed_further_after_a_request_that_has_failed(static):
    assert printed(LOG, static / "follow.js") == "true|abcd|no answer|3|11|cdefgh|"
