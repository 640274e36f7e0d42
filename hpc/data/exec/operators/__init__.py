"""Operators: what the machine runs a plan with. Each is pure: it is told of blocks, and gives work.

How to write one
----------------
An operator has ``ports`` inputs. The machine (or the operator above) calls

* `accept(port, block)`: a block of an input has come, in the input's order. From now on the block is the operator's. It
  passes it on (`emit`), or lets it go (`host.release`), or gives it to work as an input. The machine lets it go when
  that work is over. To use a block in several pieces of work, raise ``block.users`` by one for each more.
* `close_port(port)`: that input has ended.
* `waiting()`: how much work it could give now, and `take_work(most)`: the next piece, of at most so many parts. The
  machine calls it when there is room, and submits what it gets. `head_part()`: the first part of that, and
  `needed_bytes(part)`: how many bytes of its blocks that works on. Memory is kept free for it.
* `made(work, block)`: a task of the work has made a block (of ``work.part``), and `part_over(work, part)`: the part has
  given all. A part that failed and is skipped ends as well. By default blocks are passed on in the order of the parts'
  ``seq``; an operator that keeps what its tasks make (`exchange`) overrides both.
* `is_over`: whether nothing more will come of it. The machine then closes the port of the operator below.

What a task does is a *body*: a picklable callable ``body(inputs, unit, note, task) -> Iterator[Table | Piece]``. They
are in ``bodies`` by name; ``Work(body=...)`` says which. ``inputs`` are the values of the part's blocks, ``unit`` its
`SourceTask`, ``note`` what the operator gave the part, ``task`` a `TaskContext`. A body is pickled when the first work
with its name is submitted, and sent to each worker once. It may be put into ``bodies`` late, when the operator knows
what belongs into it. A body gives tables, each of which becomes a block. Or it gives a `Piece`: any value, with rows,
bytes, and a note for the operator, which is then `block.note`. What it gives must be the same for each
attempt, but for an operator that `takes_at_end`.

Work with ``wants_values`` has the values themselves brought to the driver (`block.value`): for small ones, as samples.

``takes_at_end``: what a part makes may be other rows in each attempt. The machine keeps it until the part has ended,
and throws it away if that fails.

``hoards``: the operator keeps all of its input before it gives anything, so that what it holds counts for no budget: it
may be spilled. `wants(port)`: whether more of an input is of use now; what is not wanted waits where it is.
`needs(port)`: whether nothing can go on without it; only for such an input the budget may be exceeded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

from hpc.data.exec.order import Order
from hpc.data.exec.tally import Tally
from hpc.data.exec.waits import Wait
from hpc.data.exec.work import Block, Part, Work
from hpc.data.plan.nodes import Options, Pool

#: body(inputs, unit, note, task) -> tables or pieces
Body = Callable[[list[Any], Any, Any, Any], Iterator[Any]]


class Piece(NamedTuple):
    """What a body gives that is no table, or a table with a note. ``note`` is small and pickled."""

    value: Any
    rows: int
    nbytes: int
    note: Any = None


class Host(Protocol):
    """What an operator may ask of the machine."""

    def release(self, block: Block) -> None:
        """A block is not needed any more (by one of its users)."""

    def forgo(self, block: Block) -> None:
        """A block counts for no budget any more; it stays."""

    def stop_inputs(self, op: Operator) -> None:
        """Nothing more is wanted of what is above: it is cancelled at once."""

    def emit(self, block: Block) -> None:
        """The last operator passes a block to the consumer."""


class Operator:
    """Common to all operators. See the top of this file."""

    #: How many inputs it has.
    ports: int = 1
    #: It keeps all of its input.
    hoards: bool = False

    def __init__(self, name: str, options: Options | None = None, pool: Pool | None = None, ports: int = 1) -> None:
        self.name = name
        self.options = options or Options()
        self.pool = pool
        self.ports = ports
        self.index = -1
        self.host: Host
        self.down: Operator | None = None
        self.down_port = 0
        #: The operators of its inputs, by port.
        self.ups: list[Operator] = []
        #: Operators whose blocks each of its parts takes, beside its own.
        self.beside: list[Operator] = []
        self.bodies: dict[str, Body] = {}
        self.closed = [False] * ports
        self.order: Order[Block] = Order(self.emit)
        self.tally = Tally()
        #: The pieces of work that are not over, by number, in the order of submission.
        self.running: dict[int, Work] = {}
        #: Work that is to be done again: ahead of what `take_work` gives.
        self.again: list[Work] = []
        #: Work that makes lost blocks once more, which were passed on long ago; work whose inputs are being made again.
        self.remakes: list[Work] = []
        self.held: list[Work] = []
        #: What it makes may be lost with a node: see `recover.py`.
        self.is_fragile = False
        #: What a part makes is passed on when the part has ended, since it is not the same in each attempt.
        self.takes_at_end = False
        #: It has told the operator below that it is over.
        self.told_over = False
        self.stopped = False
        #: What is wrong with its input: the run ends with it.
        self.error: Exception | None = None
        self._next_seq = 0

    # -------------------------------------------------------------- what operators override

    def accept(self, port: int, block: Block) -> None:
        """A block of an input."""
        raise NotImplementedError

    def close_port(self, port: int) -> None:
        """An input has ended."""
        self.closed[port] = True

    def wants(self, port: int) -> bool:
        """Whether more of this input is of use now."""
        return True

    def needs(self, port: int) -> bool:
        """Whether it can do nothing before more of this input has come."""
        return True

    def waiting(self) -> int:
        """How many parts it could give now."""
        return 0

    def head_part(self) -> Part | None:
        """The first part of what `take_work` gives next."""
        return None

    def needed_bytes(self, part: Part, body: str) -> int:
        """How many bytes of its blocks a part works on."""
        return part.bytes

    @property
    def next_body(self) -> str:
        """The body of what `take_work` gives next."""
        return "main"

    def take_work(self, most: int) -> Work:
        """The next work, of at most so many parts. Called only while there is some `waiting`."""
        raise NotImplementedError

    def made(self, work: Work, block: Block) -> None:
        """A block has come of the part at hand."""
        self.order.add(work.part.seq, block)

    def part_over(self, work: Work, part: Part) -> None:
        """A part has ended."""
        self.order.end(part.seq)

    def drop_all(self) -> list[Block]:
        """Nothing is wanted of it any more: the blocks that it has in its queues, which it forgets."""
        return []

    def explained(self, part: Part, error: BaseException) -> BaseException:
        """The error of a part that ends the run, with what is known of it here."""
        return error

    def why_waits(self) -> Wait:
        """What it waits for, if not for the reasons that all have."""
        return Wait.INPUT

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come of it."""
        begun = self.running or self.again or self.held
        return all(self.closed) and not begun and not self.waiting() and self.order.is_empty

    # -------------------------------------------------------------- for them

    def emit(self, block: Block) -> None:
        """Pass a block on."""
        down = self.down
        assert down is not None
        down.accept(self.down_port, block)

    def pass_on(self, block: Block) -> None:
        """Pass a block of an input on whole: no task of this operator makes it, so that it is counted here."""
        self.tally.block(block.meta.rows, block.meta.nbytes)
        self.emit(block)

    def next_seq(self) -> int:
        """The place of the next part."""
        seq = self._next_seq
        self._next_seq = seq + 1
        return seq

    def is_head(self, work: Work) -> bool:
        """Whether what it makes now is passed on at once, and others wait for it. All parts may be over already."""
        return work.at < len(work.parts) and work.part.seq <= self.order.head
