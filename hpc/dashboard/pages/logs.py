"""Logs: the files of all nodes, a piece of one at a time, what is added to it, and a search in it.

A raylet reads its files a bounded piece at a time, so the whole of a large file never travels. A search is made on the
log's node, from the end backwards, and says how far it has come.
"""

from __future__ import annotations

from typing import Any

from hpc.core.node.marks import Unmarked
from hpc.dashboard.pages.face import Answers, Page
from hpc.dashboard.views import Params, listing
from hpc.state import worker_logs
from hpc.state.worker_logs import LogPart

COLUMNS = ("node_id", "file", "size_bytes", "worker_id", "is_alive")
#: Bytes of one answer, of a search, and lines that a search finds at most.
PIECE_BYTES = 64 << 10
SEARCH_BYTES = 16 << 20
MOST_FOUND = 200
TIMEOUT_S = 10.0


def view(answers: Answers, params: Params) -> dict[str, Any]:
    """The files, the largest first where nothing else is asked for."""
    rows = sorted(answers["files"], key=lambda row: -row["size_bytes"])
    return listing(rows, COLUMNS, params)


def part_of(params: Params) -> LogPart:
    """The part of a file that is meant: by node and file, a worker, an actor, or a task."""
    suffix = params.text("suffix", "out")
    for name, find in (
        ("task", worker_logs.of_task),
        ("actor", worker_logs.of_actor),
        ("worker", worker_logs.of_worker),
    ):
        if ident := params.text(name):
            return find(ident, suffix)
    node, file = params.text("node"), params.text("file")
    if not node.isdigit() or not file:
        raise ValueError("which log? A node and a file, a worker, an actor or a task is needed")
    return LogPart(worker_logs.find_node(node, None), file)


def read(params: Params) -> dict[str, Any]:
    """A piece of a log as text. ``at``: from this byte on (what is new); ``before``: what stands before this byte; else
    the end of the part. ``at`` and ``end`` of the answer are its bytes, ``last`` those of the file."""
    part = part_of(params)
    there = worker_logs.ask(part.node, part.file, part.begin, 0, TIMEOUT_S)
    last = there.end if part.end < 0 else min(part.end, there.end)
    first = max(part.begin, there.first)
    if at := params.text("at"):
        begin = max(first, int(at))
    else:
        last_wanted = min(last, int(params.number("before", last, 1e18)))
        begin = max(first, last_wanted - PIECE_BYTES)
        last = last_wanted
    size = max(0, min(PIECE_BYTES, last - begin))
    piece = worker_logs.ask(part.node, part.file, begin, size, TIMEOUT_S) if size else there
    data = piece.data if size else b""
    unmarked = Unmarked()
    text = unmarked.take(data) + unmarked.rest()
    return {
        "node": part.node, "file": part.file, "note": part.note, "first": first,
        "at": piece.at if size else begin, "end": (piece.at if size else begin) + len(data), "last": there.end,
        "is_whole": part.end >= 0, "is_written": there.writing, "text": text.decode(errors="replace"),
    }  # fmt: skip


def search(params: Params) -> dict[str, Any]:
    """Lines of a log that have a text, the newest first: the byte at which each begins, and a piece of it."""
    part, wanted = part_of(params), params.text("text").encode()  # the node knows small letters of ASCII alone
    if not wanted:
        raise ValueError("what is searched for?")
    found = worker_logs.search(part, wanted, MOST_FOUND, SEARCH_BYTES, TIMEOUT_S)
    lines = [{"at": at, "text": text.decode(errors="replace")} for at, text in found.lines]
    return {"found": lines, "searched_bytes": found.searched_bytes, "is_whole": found.is_whole}


PAGE = Page("logs", "Logs", "9", ("files",), view, {"read": read, "search": search})
