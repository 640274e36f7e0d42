"""What `hpc top` shows, as text at two widths, and what its keys do."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hpc.cli import top, top_view
from hpc.cli.top_view import Look, age_in_words, plain, pressed, screen, seconds, size

NODE = {
    "node_id": "1", "node_name": "n01", "state": "ALIVE", "state_message": "", "is_suspect": False, "workers": 5,
    "waiting": 17, "resources_total": {"CPU": 4.0, "GPU": 2.0}, "resources_available": {"CPU": 1.0, "GPU": 2.0},
    "store_used_bytes": 11_000_000, "store_capacity_bytes": 6_700_000_000, "store_spilled_bytes": 0,
    "memory_used_bytes": 2_100_000_000, "memory_limit_bytes": 25_000_000_000,
}  # fmt: skip
DEAD = {**NODE, "node_id": "2", "node_name": "n02", "state": "DEAD", "resources_total": {}, "workers": 0, "waiting": 0}
OVERVIEW: dict[str, Any] = {
    "session": "63ebac4c00a7", "scheduler": "slurm", "job_id": "4711", "time_left_s": 8000, "growth": None,
    "nodes": [NODE, DEAD], "resources": {"CPU": {"used": 3.0, "total": 4.0}, "GPU": {"used": 0.0, "total": 2.0}},
    "demand": [
        {"required_resources": {"CPU": 1.0, "GPU": 3.0}, "strategy": "DEFAULT", "is_infeasible": True, "tasks": 1,
         "actors": 0, "owners": 1, "names": ["needs_gpus"], "why": "no node of the session can run it"},
    ],
    "placement_groups": [{"name": "pg", "missing": 2, "bundles": [{}, {}, {}], "why": "it waits", "strategy": "PACK"}],
    "drivers": [], "failed_workers": 1, "silent": [],
    "workers": {"workers": 5, "actors": 1, "tasks": 3, "idle": 1, "starting": 0},
}  # fmt: skip
TASKS = [
    {"name": "train_step", "state": state, "start_time_ms": 1000.0, "end_time_ms": 1301.0}
    for state in ["FINISHED"] * 8 + ["FAILED", "RUNNING", "PENDING_NODE_ASSIGNMENT"]
] + [{"name": "preprocess", "state": "FINISHED", "start_time_ms": 0.1, "end_time_ms": 0.102}]
ACTORS = [
    {"actor_id": "a1", "class_name": "shop.Ledger", "name": "ledger", "state": "ALIVE", "node_id": "1",
     "last_worker_id": "1.7", "num_restarts": 0, "why": ""},
    {"actor_id": "a2", "class_name": "shop.Frail", "name": "", "state": "DEAD", "node_id": "2",
     "last_worker_id": "2.3", "num_restarts": 3, "why": "its process ended: killed by signal 9"},
]  # fmt: skip
#: Each kind of rows at 80 and at 200 columns.
SCREENS = Path(__file__).with_name("top_screens.txt")


def shown(look: Look, rows: list[Any], width: int = 80, height: int = 10) -> str:
    return plain(screen(OVERVIEW, rows, look, "1 s ago", width, height))


def test_screens_of_a_narrow_and_of_a_wide_terminal():
    """HPC_TEST_GOLDEN=1 writes them anew."""
    rows = {"tasks": TASKS, "actors": ACTORS}
    parts = [
        f"==== {kind} at {width}\n{shown(Look(kind), rows.get(kind, []), width)}"
        for width in (80, 200)
        for kind in top_view.KINDS.values()
    ]
    if os.environ.get("HPC_TEST_GOLDEN"):
        SCREENS.write_text("\n".join(parts))
    assert "\n".join(parts) == SCREENS.read_text()


@pytest.mark.parametrize("width", [20, 80, 200])
@pytest.mark.parametrize("kind", list(top_view.KINDS.values()))
@pytest.mark.parametrize("height", [5, 10, 30])
def test_every_kind_fits_every_width_and_height(kind, width, height):
    actor = {
        "actor_id": "a", "class_name": "mod.Ledger", "name": "\x1b[31mred\nname", "state": "RESTARTING", "node_id": "1",
        "last_worker_id": "1.2", "num_restarts": 3, "why": "its process ended and it is being restarted",
    }  # fmt: skip
    text = shown(Look(kind), [actor] * 50 if kind == "actors" else TASKS, width, height)
    lines = text.splitlines()
    assert len(lines) == height and all(len(line) <= width for line in lines)
    assert "\x1b" not in text, "a name cannot do anything to the terminal"


def test_a_wide_terminal_has_room_for_names_and_reasons():
    text = shown(Look("why"), [], 200)
    assert "CPU 1, GPU 3" in text and "no node of the session can run it" in text and "2 of 3 bundles" in text
    dead = {"class_name": "A", "state": "DEAD", "num_restarts": 0, "why": "it was killed"}
    dead |= {"name": "", "node_id": "", "last_worker_id": ""}
    assert "it was killed" in shown(Look("actors"), [dead], 200)
    assert "n02" in shown(Look("nodes"), []) and "n02" not in shown(Look("gpus"), [])


def test_what_does_not_fit_is_counted():
    rows = [{"name": f"task-{number}", "state": "RUNNING"} for number in range(40)]
    assert "and 38 more" in shown(Look(), rows)
    assert "nothing" in shown(Look(words="no-such-name"), rows)
    assert shown(Look(words="task-7"), rows).count("task-") == 2, "the row, and the filter below"


def test_keys_choose_filter_and_end():
    look = Look()
    assert pressed(look, "n") == Look("nodes") and pressed(look, "x") == look
    assert pressed(look, "q") is None and pressed(look, "\x03") is None
    typing = pressed(look, "/")
    assert typing == Look(is_typing=True)
    for key in "aqq\x7f":
        typing = pressed(typing, key)
    assert typing == Look("tasks", "aq", True)
    assert pressed(typing, "\r") == Look("tasks", "aq") and pressed(typing, "\x1b") == Look()
    assert "/ aq_" in plain([top_view.screen(OVERVIEW, [], typing, "", 80, 10)[-1]])


def test_numbers_are_short():
    assert [size(value) for value in (0, 999, 11_000_000, 2.1e9)] == ["0", "999", "11M", "2.1G"]
    assert [seconds(value) for value in (2e-6, 0.0402, 0.301, 12.345, 4000)] == [
        "2us",
        "40.2ms",
        "301ms",
        "12.3s",
        "4000s",
    ]
    assert (age_in_words(None, 1.0), age_in_words(1.0, 3.2), age_in_words(1.0, 3.0, "gone")) == (
        "asking",
        "2 s ago",
        "gone",
    )


def test_an_error_is_one_line_and_what_is_not_known_no_zero():
    assert age_in_words(1.0, 3.0, "gone\n\x1b[2J") == "gone  [2J"
    unknown = {**NODE, "memory_used_bytes": 0, "memory_limit_bytes": 0}
    overview = {**OVERVIEW, "nodes": [unknown]}
    text = plain(screen(overview, [], Look("nodes"), "", 80, 10))
    assert "mem not known" in text and "0/0" not in text and "11M/6.7G" in text


def test_colours_are_around_the_text_only():
    line = [top_view.Span("a", "bad"), top_view.Span("b")]
    assert top_view.coloured(line) == "\x1b[31ma\x1b[0mb"


STOPPED = """
import os, signal
from hpc.cli import top
signal.raise_signal = lambda number: os.write(1, b"<stopped>")
with top._terminal() as screen:
    screen.draw(["a line"])
    os.kill(os.getpid(), signal.SIGTSTP)
    screen.draw(["a line"])
"""


def test_the_terminal_is_given_back_while_it_is_stopped():
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run([sys.executable, "-c", STOPPED], stdin=theirs, stdout=theirs, timeout=60, check=True)
        text = os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 0
    shown = "\x1b[2J\x1b[1;1Ha line\x1b[K"
    assert text == f"{top.ENTER}{shown}{top.LEAVE}<stopped>{top.ENTER}{shown}{top.LEAVE}"
