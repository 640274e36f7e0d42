"""What has run in a session: the histories that its raylets keep, read page by page, the newest first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from hpc.api.connection import ensure_client
from hpc.core.events.rows import Batch, TaskRow, rows_of, unpack, unpack_page
from hpc.core.ids import Address, raylet_of
from hpc.core.wire import Answer, HistoryQuery
from hpc.state import gather

#: Events that one question brings together: with more nodes each tells fewer of its newest ones.
MOST_EVENTS = 400_000
#: Bytes that a node is asked for at a time: at least, and at most, and all nodes together.
LEAST_PAGE_BYTES, PAGE_BYTES, ROUND_BYTES = 32 << 10, 4 << 20, 64 << 20
#: About what an event takes.
EVENT_BYTES = 80


@dataclass
class History:
    """Batches of events by their workers, the oldest first. ``dropped`` events are missing, ``silent`` nodes did not
    answer. ``cut``: nodes that have more than was asked for. By node: ``upto``, the newest batch that was seen, and
    ``ended``, how many events the node has heard of in all."""

    batches: dict[Address, list[Batch]] = field(default_factory=dict)
    dropped: int = 0
    silent: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    upto: dict[int, int] = field(default_factory=dict)
    ended: dict[int, int] = field(default_factory=dict)

    def rows(self) -> Iterator[TaskRow]:
        """All events, worker by worker."""
        for worker, batches in self.batches.items():
            yield from rows_of(batches, str(worker))

    def words(self) -> str:
        """What is missing, for people; empty where nothing is."""
        parts = []
        if self.dropped:
            parts.append(f"{self.dropped} tasks and calls that have ended are not remembered any more")
        if self.cut:
            parts.append(f"only the newest that ended on node {', '.join(self.cut)}")
        if self.silent:
            parts.append(f"no answer in time from {', '.join(self.silent)}")
        return "; ".join(parts)


def read(
    since: Mapping[int, int] | None = None,
    timeout_s: float = gather.TIMEOUT_S,
    most_events: int = MOST_EVENTS,
    head_s: float = gather.HEAD_S,
) -> History:
    """What the living nodes remember, of each what came after its batch ``since`` (by node; else all that there is)."""
    nodes = [row["node"] for row in gather.node_rows(head_s) if row["alive"] and not row["gateway"]]
    page_bytes = page_size(len(nodes), most_events)
    found = History()
    pages: dict[int, list[tuple[int, int, Batch]]] = {}
    asked = {node: HistoryQuery(0, (since or {}).get(node, 0), 0, page_bytes) for node in nodes}
    room = dict.fromkeys(nodes, max(1, most_events // max(1, len(nodes))))
    while asked:
        answers = _ask(asked, timeout_s)
        found.silent += [str(raylet_of(node)) for node in asked if node not in answers]
        again: dict[int, HistoryQuery] = {}
        for node, answer in answers.items():
            page = unpack_page(answer.data)
            if node not in pages:
                found.dropped += page.dropped
                found.ended[node] = page.events + page.dropped
                found.upto[node] = page.batches[0].serial if page.batches else (since or {}).get(node, 0)
            batches = [(kept.serial, kept.proc, unpack(kept.data)) for kept in page.batches]
            pages.setdefault(node, []).extend((serial, proc, one) for serial, proc, one in batches if one is not None)
            room[node] -= sum(len(one.events) for _, _, one in batches if one is not None)
            if page.more and room[node] > 0:
                again[node] = HistoryQuery(0, asked[node].since, page.batches[-1].serial, page_bytes)
            elif page.more:
                found.cut.append(str(node))
        asked = again
    for node, batches_of in pages.items():
        for _, proc, batch in reversed(batches_of):
            found.batches.setdefault(Address(node, proc), []).append(batch)
    return found


def page_size(nodes: int, most_events: int = MOST_EVENTS) -> int:
    """Bytes that each of so many nodes is asked for at a time. With thousands of nodes 4 MiB of each would be GiB, and
    few events need few bytes."""
    most = min(PAGE_BYTES, ROUND_BYTES // max(1, nodes), most_events * EVENT_BYTES // max(1, nodes))
    return max(LEAST_PAGE_BYTES, most)


def _ask(asked: Mapping[int, HistoryQuery], timeout_s: float) -> dict[int, Answer]:
    """The answers of those raylets that answer in time."""
    questions = {raylet_of(node): _numbered(query) for node, query in asked.items()}
    found = ensure_client().conversation.ask_several(questions, timeout_s)
    return {dst.node: answer for dst, answer in found.items() if isinstance(answer, Answer) and answer.ok}


def _numbered(query: HistoryQuery) -> Callable[[int], HistoryQuery]:
    return lambda number: HistoryQuery(number, query.since, query.before, query.size)
