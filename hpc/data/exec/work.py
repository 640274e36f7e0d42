"""What the machine moves about: blocks, and the work that makes them. Plain records, told apart by identity."""

from __future__ import annotations

import enum
from typing import Any

from hpc.data.block.meta import BlockMeta
from hpc.data.exec.tally import Tally

#: What a block costs beside its bytes: the records of it in the driver and in the store.
BLOCK_OVERHEAD = 2048


class Block:
    """A block, or another value that a task has made. ``ref`` is the shell's; the machine only passes it on.

    node: where it was made ("" where that is not known).
    note: what its task says of it to the operator, beside ``meta``.
    value: the value itself, for work that `wants_values`.
    counts: that its bytes count: not those of blocks that were there before.
    users: how many need it yet; at 0 its bytes count no more.
    origin: how it can be made again; None where the runtime sees to that, or nothing can.
    lost: it is being made again.
    maker: the tally of the operator whose block it is, while it exists.
    """

    __slots__ = ("bytes", "counts", "lost", "maker", "meta", "node", "note", "origin", "ref", "users", "value")

    def __init__(self, ref: Any, meta: BlockMeta, node: str = "", note: Any = None, value: Any = None) -> None:
        self.ref = ref
        self.meta = meta
        self.node = node
        self.note = note
        self.value = value
        self.counts = self.lost = False
        self.users = 1
        self.origin: Origin | None = None
        self.maker: Tally | None = None
        self.bytes = meta.nbytes + BLOCK_OVERHEAD


class Part:
    """What one run of a body works on: a piece of a source, or blocks. It gives blocks of its own, cut by themselves.

    seq: its place in the order of its operator's results.
    unit: a `SourceTask`, or None.
    note: what the operator tells the body beside that; pickled.
    origin: what is remembered of it, while somebody needs what it has made.
    """

    __slots__ = ("_bytes", "blocks", "note", "origin", "seq", "unit")

    def __init__(self, seq: int, blocks: tuple[Block, ...] = (), unit: Any = None, note: Any = None) -> None:
        self.seq = seq
        self.blocks = blocks
        self.unit = unit
        self.note = note
        self.origin: Origin | None = None
        self._bytes = -1

    @property
    def bytes(self) -> int:
        """The bytes of its blocks, counted once: there may be thousands."""
        if self._bytes < 0:
            self._bytes = sum(block.meta.nbytes for block in self.blocks)
        return self._bytes

    @property
    def near(self) -> str:
        """The node where it should run: that of its unit, or of its first block; "" for any."""
        node = str(getattr(self.unit, "node", None) or "")
        return self.blocks[0].node if self.blocks and not node else node

    @property
    def where(self) -> str:
        """Which rows it has, for messages: the files that they come from, and what of them."""
        if self.unit is not None:
            return str(getattr(self.unit, "where", ""))
        files = [*dict.fromkeys(name for block in self.blocks for name in block.meta.files)]
        rows = [f"{sum(block.meta.rows for block in self.blocks)} rows"] if self.blocks else []
        return ", ".join([*files[:3], *(["..."] if len(files) > 3 else []), *rows])


class Origin:
    """How blocks were made that may be lost with a node: see `recover.py`.

    blocks: those of the part, in their order; None where nobody needs one any more. live: how many are needed.
    marks: rows and digest of each. is_over: the part has ended. again: the work that makes it once more.
    """

    __slots__ = ("again", "blocks", "body", "is_over", "live", "marks", "op", "part", "wants_values")

    def __init__(self, op: Any, part: Part, body: str, wants_values: bool) -> None:
        self.op = op
        self.part = part
        self.body = body
        self.wants_values = wants_values
        self.blocks: list[Block | None] = []
        self.marks: list[tuple[int, int]] = []
        self.live = 0
        self.is_over = False
        self.again: Work | None = None

    def add(self, block: Block) -> None:
        """The next block of the part."""
        self.blocks.append(block)
        self.marks.append((block.meta.rows, block.meta.digest))
        self.live += 1
        block.origin = self


class WorkState(enum.Enum):
    """How far a piece of work is."""

    SUBMITTED = "submitted"
    BEGUN = "begun"
    OVER = "over"


class Cause(enum.Enum):
    """Why a piece of work failed."""

    #: The part at hand: the user's function, or the data.
    PART = "part"
    #: Its process has ended.
    CRASH = "crash"
    #: Something that no other attempt mends.
    SESSION = "session"


class Work:
    """A task, or a call of an actor: one or more parts, one after the other.

    op: its `Operator`. body: by which of the bodies of that.
    attempt: how often it has begun before; ``starts``: with the times that it could not begin.
    at: which part it is at; ``seen`` and ``rows``: how many blocks and rows of that part have come.
    replay: blocks of the part at hand that an earlier attempt has given already.
    remakes: all blocks were given already, and some of them are lost.
    kept: blocks of the part at hand that are passed on when it has ended (`takes_at_end`).
    reserved: bytes that are kept free for what it makes. window: so many blocks it may make ahead.
    shares: it takes no CPU of its own. placed: a worker was seen that will run it.
    offered: its next block is there and was not taken yet; ``offer``: so many bytes it has.
    """

    __slots__ = (
        "actor",
        "at",
        "attempt",
        "began",
        "blocks",
        "body",
        "digests",
        "heap",
        "kept",
        "node",
        "number",
        "offer",
        "offered",
        "op",
        "parts",
        "paused",
        "placed",
        "remakes",
        "replay",
        "reserved",
        "rows",
        "seen",
        "shares",
        "starts",
        "state",
        "submitted",
        "wants_values",
        "window",
    )

    def __init__(self, op: Any, parts: list[Part], body: str = "main", wants_values: bool = False) -> None:
        self.op = op
        self.number = -1
        self.parts = parts
        self.body = body
        self.wants_values = wants_values
        self.attempt = 0
        self.starts = 0
        self.at = 0
        self.seen = 0
        self.rows = 0
        self.replay = 0
        self.remakes = False
        #: What tells the blocks of the part at hand, to compare those of another attempt with.
        self.digests: list[tuple[int, int]] = []
        self.kept: list[Block] = []
        self.reserved = 0
        self.heap = 0
        self.window = 2
        self.node = ""
        self.actor: int | None = None
        self.offered = False
        self.offer = 0
        self.paused = self.shares = self.placed = False
        self.state = WorkState.SUBMITTED
        self.submitted = 0.0
        self.began = 0.0
        self.blocks = [block for part in parts for block in part.blocks]

    @property
    def part(self) -> Part:
        """The part that it is at."""
        return self.parts[self.at]

    def next_part(self) -> None:
        """The part at hand has ended."""
        self.at += 1
        self.seen = self.rows = self.replay = 0
        self.digests.clear()

    @property
    def name(self) -> str:
        """For messages."""
        part = self.parts[min(self.at, len(self.parts) - 1)]
        where = part.where
        return f"{self.op.name}, part {part.seq}{f' ({where})' if where else ''}"


class Actor:
    """One actor of the pool of an `Operator`."""

    __slots__ = ("idle_since", "is_up", "node", "number", "op", "placed_at", "shares", "stopping", "work")

    def __init__(self, op: Any, number: int) -> None:
        self.op = op
        self.number = number
        self.node = ""
        self.is_up = False
        self.stopping = False
        #: It takes no CPU of its own.
        self.shares = False
        self.idle_since = 0.0
        #: When it was seen first that it has a worker; None: nobody knows of one.
        self.placed_at: float | None = None
        #: What runs or waits there, in the order of submission.
        self.work: dict[int, Work] = {}
