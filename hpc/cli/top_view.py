"""What `hpc top` shows: rows as lines of a given width, each a row of spans with a style. No I/O.

At 80 columns everything that matters has room. What a wider terminal has more goes to the names and the reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from hpc.dashboard.views import Row, matching, tasks_by_name
from hpc.settings.durations import short as duration

Style = Literal["", "dim", "bold", "good", "bad", "warn", "busy"]
Kind = Literal["tasks", "nodes", "gpus", "actors", "why"]
KINDS: Mapping[str, Kind] = {"t": "tasks", "n": "nodes", "g": "gpus", "a": "actors", "w": "why"}
#: What each kind needs beside the overview.
NEEDS: Mapping[Kind, tuple[str, ...]] = {"tasks": ("tasks",), "actors": ("actors",)}
CODES = {"dim": "2", "bold": "1", "good": "32", "bad": "31", "warn": "33", "busy": "36"}
BAR = 10


class Span(NamedTuple):
    """A piece of a line."""

    text: str
    style: Style = ""


Line = list[Span]


class Look(NamedTuple):
    """What the user has chosen: a kind of rows, a filter, and whether it is being typed."""

    kind: Kind = "tasks"
    words: str = ""
    is_typing: bool = False


class Column(NamedTuple):
    """A column: its head, its width (0: what is left), and the cell of a row. ``right``: whether it stands there."""

    head: str
    width: int
    cell: Callable[[Row], str]
    style: Callable[[Row], Style] = lambda row: ""
    right: bool = False


def screen(overview: Row, rows: Sequence[Row], look: Look, age: str, width: int, height: int) -> list[Line]:
    """The whole screen: who it is, what is used, the rows of the chosen kind, and the keys."""
    head = [_title(overview, age, width), *_use(overview), []]
    room = max(1, height - len(head) - 2)
    shown = chosen(overview, rows, look)
    body = _table(COLUMNS[look.kind], shown, width, room)
    empty: list[Line] = [[] for _ in range(room + 1 - len(body))]
    lines = [*(_cut(line, width) for line in head), *body, *empty]
    return [*lines[: max(0, height - 1)], _keys(look, width)]


def chosen(overview: Row, rows: Sequence[Row], look: Look) -> list[Row]:
    """The rows of a kind that the filter passes."""
    found: Sequence[Row]
    if look.kind == "tasks":
        found = tasks_by_name(rows, 500)
    elif look.kind in ("nodes", "gpus"):
        found = [row for row in overview["nodes"] if look.kind == "nodes" or row["resources_total"].get("GPU")]
    elif look.kind == "actors":
        found = sorted(rows, key=lambda row: row["state"] == "DEAD")
    else:
        groups = [{**group, "names": [f"group {group['name']}".strip()]} for group in overview["placement_groups"]]
        found = [*overview["demand"], *groups]
    return matching(found, look.words, ("name", "node_id", "node_name", "state", "class_name", "names", "why"))


def plain(lines: Sequence[Line]) -> str:
    """Lines as text without colours."""
    return "".join("".join(span.text for span in line).rstrip() + "\n" for line in lines)


def coloured(line: Line) -> str:
    """A line as a terminal shows it."""
    return "".join(f"\x1b[{CODES[span.style]}m{span.text}\x1b[0m" if span.style else span.text for span in line)


# ---------------------------------------------------------------- the head


def _title(found: Row, age: str, width: int) -> Line:
    line = [Span("hpc top", "bold"), Span(f"  session {found['session']}")]
    if found["scheduler"]:
        line.append(Span(f"  {found['scheduler']} {found['job_id']}"))
    if found["time_left_s"] is not None:
        line.append(Span(f"  {duration(found['time_left_s'])} left", "warn" if found["time_left_s"] < 600 else ""))
    if found["silent"]:
        line.append(Span(f"  {len(found['silent'])} silent", "warn"))
    gap = width - sum(len(span.text) for span in line) - len(age)
    return [*line, Span(" " * max(2, gap)), Span(age, "dim")]


def _use(found: Row) -> list[Line]:
    alive = [node for node in found["nodes"] if node["state"] == "ALIVE"]
    dead, workers = len(found["nodes"]) - len(alive), found["workers"]
    first = [Span("nodes ", "dim"), Span(f"{len(alive)}")]
    first += [Span(f" {dead} dead", "bad")] * bool(dead)
    for name in ("CPU", "GPU"):
        if (kind := found["resources"].get(name)) and kind["total"]:
            first += _bar(name, kind["used"] / kind["total"], f"{kind['used']:g}/{kind['total']:g}")
    used, most = (sum(node[f"memory_{name}_bytes"] for node in alive) for name in ("used", "limit"))
    second = _amount("mem", used, most, "")
    used, most = (sum(node[f"store_{name}_bytes"] for node in alive) for name in ("used", "capacity"))
    second += _amount("store", used, most)
    spilled = sum(node["store_spilled_bytes"] for node in alive)
    second += [Span(f", {size(spilled)} spilled", "warn")] * bool(spilled)
    third = [Span("workers ", "dim"), Span(f"{workers['workers']}: {workers['tasks']} run tasks, ")]
    third += [Span(f"{workers['actors']} actors, {workers['idle']} idle")]
    third += [Span(f"   {found['failed_workers']} failed", "bad")] * bool(found["failed_workers"])
    return [first, second, third]


def _amount(name: str, used: int, most: int, gap: str = "   ") -> Line:
    """Bytes of what there is; no node has told where there is nothing."""
    if not most:
        return [Span(f"{gap}{name} not known", "dim")]
    return _bar(name, used / most, f"{size(used)}/{size(most)}", gap)


def _bar(name: str, share: float, text: str, gap: str = "   ") -> Line:
    full = round(BAR * min(1.0, max(0.0, share)))
    bar = [Span("|" * full, "warn" if share > 0.92 and name == "mem" else "busy"), Span("." * (BAR - full), "dim")]
    return [Span(f"{gap}{name} ", "dim"), *bar, Span(f" {text}")]


def size(value: float) -> str:
    """Bytes in a short form."""
    for unit, one in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= one:
            return f"{value / one:.3g}{unit}"
    return f"{value:g}"


# ---------------------------------------------------------------- the rows


def _progress(row: Row) -> str:
    total = row["finished"] + row["failed"] + row["running"] + row["waiting"]
    ended = row["finished"] + row["failed"]
    full = BAR * ended // total if total else 0
    return "#" * full + "." * (BAR - full)


def _used(node: Row, name: str) -> str:
    total = node["resources_total"].get(name, 0.0)
    return f"{total - node['resources_available'].get(name, 0.0):g}/{total:g}" if total else ""


def _of(node: Row, what: str, most: str) -> str:
    there = node[f"{what}_{most}_bytes"]
    return f"{size(node[f'{what}_used_bytes'])}/{size(there)}" if there else ""


def _wants(row: Row) -> str:
    if "bundles" in row:
        return f"{row['missing']} of {len(row['bundles'])} bundles"
    return ", ".join(f"{name} {amount:g}" for name, amount in row["required_resources"].items()) or "nothing"


def _number(name: str, head: str, width: int = 7, style: Style = "") -> Column:
    return Column(
        head, width, lambda row: f"{row[name]:,}" if row[name] else "", lambda row: style if row[name] else "", True
    )


def _time(name: str, head: str) -> Column:
    return Column(head, 8, lambda row: "" if row[name] is None else seconds(row[name]), right=True)


def seconds(value: float) -> str:
    """A time with three digits and its unit."""
    for unit, one in (("s", 1.0), ("ms", 1e-3)):
        if value >= one:
            return f"{value / one:.0f}{unit}" if value >= 100 * one else f"{value / one:.3g}{unit}"
    return f"{value * 1e6:.0f}us"


STANDING: Mapping[str, Style] = {"ALIVE": "good", "DEAD": "bad", "RESTARTING": "warn", "SILENT": "warn"}


def _standing(row: Row) -> Style:
    return STANDING.get("SILENT" if row.get("is_suspect") else row["state"], "busy")


_STATE = Column("STATE", 9, lambda row: "silent" if row.get("is_suspect") else row["state"].lower(), _standing)
_NODE = (
    Column("NODE", 5, lambda row: row["node_id"]),
    Column("HOST", 0, lambda row: row["node_name"] or ""),
    _STATE,
)
COLUMNS: Mapping[Kind, tuple[Column, ...]] = {
    "tasks": (
        Column("NAME", 0, lambda row: row["name"]),
        Column("PROGRESS", BAR, _progress, lambda row: "bad" if row["failed"] else "good"),
        _number("running", "RUNS", 6, "busy"),
        _number("waiting", "WAITS"),
        _number("finished", "DONE", 9),
        _number("failed", "FAILED", 6, "bad"),
        _time("p50_s", "MEDIAN"),
        _time("most_s", "LONGEST"),
    ),
    "nodes": (
        *_NODE,
        Column("CPU", 8, lambda row: _used(row, "CPU"), right=True),
        Column("MEMORY", 11, lambda row: _of(row, "memory", "limit"), right=True),
        Column("STORE", 11, lambda row: _of(row, "store", "capacity"), right=True),
        _number("workers", "WORKERS"),
        _number("waiting", "WAITS", 6),
    ),
    "gpus": (
        *_NODE,
        Column("GPU", 8, lambda row: _used(row, "GPU"), right=True),
        Column("CPU", 8, lambda row: _used(row, "CPU"), right=True),
        Column("MEMORY", 11, lambda row: _of(row, "memory", "limit"), right=True),
    ),
    "actors": (
        Column("CLASS", 0, lambda row: row["class_name"].rpartition(".")[2]),
        Column("NAME", 14, lambda row: row["name"] or ""),
        _STATE,
        Column("NODE", 5, lambda row: row["node_id"]),
        Column("WORKER", 7, lambda row: row["last_worker_id"]),
        _number("num_restarts", "RESTARTS", 8, "warn"),
        Column("WHY", 24, lambda row: "" if row["state"] == "ALIVE" else row["why"]),
    ),
    "why": (
        Column("MANY", 6, lambda row: f"{row.get('tasks', 0) + row.get('actors', 0) or row['missing']:,}", right=True),
        Column("WHAT", 16, lambda row: ", ".join(row["names"])),
        Column("WANTS", 16, _wants),
        Column("WHY", 0, lambda row: row["why"], lambda row: "bad" if row.get("is_infeasible") else ""),
    ),
}  # fmt: skip


def _table(columns: Sequence[Column], rows: Sequence[Row], width: int, room: int) -> list[Line]:
    """A head and as many rows as there is room for; the last of them says how many more there are."""
    left = width - sum(column.width + 1 for column in columns if column.width)
    wide = [column.width or max(8, left) for column in columns]
    lines = [[Span(_cell(c.head, w, c.right), "dim") for c, w in zip(columns, wide, strict=True)]]
    shown = rows if len(rows) <= room else rows[: room - 1]
    for row in shown:
        lines.append([Span(_cell(c.cell(row), w, c.right), c.style(row)) for c, w in zip(columns, wide, strict=True)])
    if not rows:
        lines.append([Span("nothing", "dim")])
    elif len(shown) < len(rows):
        lines.append([Span(f"and {len(rows) - len(shown):,} more: / chooses some", "dim")])
    return [_cut(_spaced(line), width) for line in lines]


def _cell(text: str, width: int, right: bool) -> str:
    text = printable(text)
    text = text if len(text) <= width else text[: width - 1] + "~"
    return text.rjust(width) if right else text.ljust(width)


def printable(text: str) -> str:
    """Text that cannot do anything to a terminal: names and reasons come from programs."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _spaced(line: Line) -> Line:
    return [part for span in line for part in (span, Span(" "))][:-1]


def _cut(line: Line, width: int) -> Line:
    found: Line = []
    for span in line:
        if width <= 0:
            break
        found.append(Span(span.text[:width], span.style))
        width -= len(span.text)
    return found


def _keys(look: Look, width: int) -> Line:
    if look.is_typing:
        typed = [Span("/ ", "bold"), Span(look.words), Span("_", "busy"), Span("   Enter: keep, Esc: none", "dim")]
        return _cut(typed, width)
    line: Line = []
    for key, kind in KINDS.items():
        line += [Span(key, "bold"), Span(f" {kind}  ", "busy" if kind == look.kind else "dim")]
    words = f" filter: {look.words}  " if look.words else " filter  "
    return _cut([*line, Span("/", "bold"), Span(words, "dim"), Span("q", "bold"), Span(" quit", "dim")], width)


def pressed(look: Look, key: str) -> Look | None:
    """What is looked at after a key; None where it ends the program."""
    if look.is_typing:
        if key in ("\r", "\n"):
            return look._replace(is_typing=False)
        if key == "\x1b":
            return look._replace(is_typing=False, words="")
        if key in ("\x7f", "\b"):
            return look._replace(words=look.words[:-1])
        return look._replace(words=look.words + key) if key.isprintable() else look
    if key in ("q", "\x03", "\x04"):
        return None
    if key == "/":
        return look._replace(is_typing=True)
    return look._replace(kind=KINDS[key]) if key in KINDS else look


def age_in_words(at_s: float | None, now_s: float, error: str = "") -> str:
    """How old what is shown is."""
    if error:
        return printable(error)
    return "asking" if at_s is None else f"{max(0, round(now_s - at_s))} s ago"
