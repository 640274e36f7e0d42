"""A search in a log file, as its node makes it: each line once, the last first, a bounded piece at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from hpc.core.ids import Address
from hpc.core.node import marks
from hpc.core.node.spec import NodeSpec
from hpc.core.raylet import logfiles
from hpc.core.wire import LogSearch
from hpc.dashboard.pages import logs
from hpc.dashboard.views import Params
from hpc.state import worker_logs
from hpc.state.worker_logs import LogPart


def files_of(folder: Path) -> logfiles.LogFiles:
    """The log files of a node with this folder."""
    (folder / "logs").mkdir()
    spec = NodeSpec(
        session="s", node=3, rank=0, world=1, dir=str(folder), interface="lo", interface_addr="127.0.0.1", cpus=1,
        granted_cpus=1, mem_bytes=1,
    )  # fmt: skip
    return logfiles.LogFiles(spec)


def found_in(files: logfiles.LogFiles, text: bytes, begin: int = 0, last: int = -1) -> list[list[Any]]:
    """All lines with a text, as somebody finds them who asks for one piece after the other."""
    at, lines = last, []
    while True:
        answer = files.on_search(Address(1, 2), LogSearch(7, "worker-1.out", begin, at, text))
        assert answer.ok, answer.why
        first, below, _, part = msgspec.msgpack.decode(answer.data)
        lines += part
        if below <= max(begin, first):
            return lines
        assert at < 0 or below < at, "it gets on"
        at = below


@pytest.mark.parametrize("piece", [40, 64, 1 << 20])
def test_a_search_finds_each_line_once_the_last_first(tmp_path, monkeypatch, piece):
    monkeypatch.setattr(logfiles, "SEARCH_BYTES", piece)
    lines = [b"step %d%s" % (number, b" Lost" if number % 7 == 3 else b"") for number in range(200)]
    files = files_of(tmp_path)
    (tmp_path / "logs" / "worker-1.out").write_bytes(b"\n".join(lines))
    starts = [sum(len(line) + 1 for line in lines[:number]) for number in range(200)]
    wanted = [[starts[number], lines[number]] for number in range(200) if number % 7 == 3]
    assert found_in(files, b"LOST") == wanted[::-1] and found_in(files, b"nowhere") == []
    assert found_in(files, b"lost", starts[100], starts[150]) == [
        one for one in wanted[::-1] if 100 <= starts.index(one[0]) < 150
    ]


def test_a_search_shows_no_marks_and_a_part_of_long_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(logfiles, "SEARCH_BYTES", 5000)
    files = files_of(tmp_path)
    data = (
        b"x" * 9000
        + b"needle"
        + b"y" * 9000
        + b"\n"
        + marks.mark("needle")
        + b"a task\n"
        + marks.mark("f")
        + b"needle 2\n"
    )
    (tmp_path / "logs" / "worker-1.out").write_bytes(data)
    found = [text for _, text in found_in(files, b"needle")]
    assert found[0] == b"needle 2" and len(found) == 2
    assert found[1].startswith(b"x") and b"needle" in found[1] and len(found[1]) <= 2 * logfiles.AROUND_BYTES


def test_a_search_tells_so_many_lines_and_goes_on_below_them(tmp_path):
    files = files_of(tmp_path)
    (tmp_path / "logs" / "worker-1.out").write_bytes(b"the same\n" * 1000)
    answer = files.on_search(Address(1, 2), LogSearch(7, "worker-1.out", 0, -1, b"same"))
    first, at, end, lines = msgspec.msgpack.decode(answer.data)
    assert (first, at, end, len(lines)) == (0, 9 * 800, 9000, logfiles.MAX_FOUND)
    assert len(found_in(files, b"same")) == 1000
    assert not files.on_search(Address(1, 2), LogSearch(7, "worker-1.out", 0, -1, b"")).ok
    assert not files.on_search(Address(1, 2), LogSearch(7, "../session.json", 0, -1, b"a")).ok


def test_a_search_beyond_the_ends_of_a_log_finds_nothing_and_a_text_has_a_limit(tmp_path):
    files = files_of(tmp_path)
    (tmp_path / "logs" / "worker-1.out").write_bytes(b"the same\n" * 10)
    most = (1 << 64) - 1
    for begin, last in ((most, -1), (most, most), (90, 10), (most, 0)):
        answer = files.on_search(Address(1, 2), LogSearch(7, "worker-1.out", begin, last, b"same"))
        assert answer.ok and msgspec.msgpack.decode(answer.data) == [0, 90, 90, []]
    answer = files.on_search(Address(1, 2), LogSearch(7, "worker-1.out", -most // 2, most, b"same"))
    assert len(msgspec.msgpack.decode(answer.data)[3]) == 10
    long = b"a" * (logfiles.MAX_WANTED_BYTES + 1)
    assert not files.on_search(Address(1, 2), LogSearch(7, "worker-1.out", 0, -1, long)).ok


def test_a_search_of_the_page_finds_large_letters_that_are_not_ascii(tmp_path, monkeypatch):
    files = files_of(tmp_path)
    (tmp_path / "logs" / "worker-1.out").write_bytes("Ärger im Modell\nnichts\n".encode())

    def answered(node: int, query: Any, timeout_s: float) -> list[Any]:
        found: list[Any] = msgspec.msgpack.decode(files.on_search(Address(1, 2), query).data)
        return found

    monkeypatch.setattr(worker_logs, "_answered", answered)
    monkeypatch.setattr(logs, "part_of", lambda params: LogPart(1, "worker-1.out"))
    for text in ("Ärger", "Ärger IM"):
        assert logs.search(Params({"text": text}))["found"] == [{"at": 0, "text": "Ärger im Modell"}]
