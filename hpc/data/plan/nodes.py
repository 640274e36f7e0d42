"""The logical plan: a tree of frozen nodes. A dataset is a plan; each method of a dataset makes a node on top.

A node says what is wanted, and nothing of how. Rules (`rules_*.py`) give another tree with the same rows, `physical.py`
makes stages of it. ``inputs`` are the nodes that rows come from, and `with_inputs` gives the same node on others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

if TYPE_CHECKING:
    from hpc.data.block.meta import BlockMeta
    from hpc.data.expr.nodes import Expr
    from hpc.data.io.sink import Sink
    from hpc.data.io.source import Source
    from hpc.data.shuffle.exchange import Exchange
    from hpc.data.transform.base import Transform

N = TypeVar("N", bound="Node")


class BlockHandle(NamedTuple):
    """A block that is somewhere in the session: the reference to its table, and what is known of it.

    node: where it was made; "" where that is not known."""

    ref: Any
    meta: BlockMeta
    node: str = ""

    @property
    def block_refs(self) -> list[Any]:
        """The reference alone, as bundles of Ray have theirs."""
        return [self.ref]

    def num_rows(self) -> int:
        """The rows of the block."""
        return self.meta.rows

    def size_bytes(self) -> int:
        """Its bytes in memory."""
        return self.meta.nbytes


@dataclass(frozen=True)
class Options:
    """How the tasks (or actors) of one stage are run. None: as the runtime does it by itself.

    ``remote`` has what else `.options()` of a remote function takes (label_selector, runtime_env, max_retries, ...),
    ``remote_fn`` gives more of it for each task or actor. ``concurrency`` caps the tasks that run at a time."""

    num_cpus: float | None = None
    num_gpus: float | None = None
    memory: int | None = None
    concurrency: int | None = None
    remote: Mapping[str, Any] = field(default_factory=dict)
    remote_fn: Callable[[], Mapping[str, Any]] | None = None


@dataclass(frozen=True)
class Pool:
    """A stage is run by actors: at least ``least`` of them, at most ``most`` (None: as many as there is room for).

    ``initial``: with so many it begins. ``queued``: at most so many calls wait or run at an actor (None: twice
    ``concurrent``). ``concurrent``: so many calls of an actor run at a time."""

    least: int = 1
    most: int | None = None
    initial: int | None = None
    queued: int | None = None
    concurrent: int = 1


@dataclass(frozen=True)
class Node:
    """Common to all nodes."""

    @property
    def inputs(self) -> tuple[Node, ...]:
        """The nodes that the rows come from."""
        given = getattr(self, "input", None)
        return () if given is None else (given,)

    @property
    def name(self) -> str:
        """What people see: in `explain`, in errors and in progress."""
        return type(self).__name__

    def with_inputs(self: N, inputs: tuple[Node, ...]) -> N:
        """The same on other inputs."""
        if not self.inputs:
            return self
        return replace(self, input=inputs[0])  # type: ignore[call-arg]


class _Several(Node):
    """A node of any number of inputs."""

    nodes: tuple[Node, ...]

    @property
    def inputs(self) -> tuple[Node, ...]:
        return self.nodes

    def with_inputs(self: N, inputs: tuple[Node, ...]) -> N:
        return replace(self, nodes=inputs)  # type: ignore[call-arg]


# ---------------------------------------------------------------- where rows come from


@dataclass(frozen=True)
class Read(Node):
    """The rows of a source. ``parallelism``: into so many blocks at least (-1: by its size and the session's CPUs)."""

    source: Source
    options: Options = Options()
    parallelism: int = -1

    @property
    def name(self) -> str:
        return f"Read{self.source.name}"


@dataclass(frozen=True)
class Blocks(Node):
    """Blocks that exist."""

    blocks: tuple[BlockHandle, ...]
    label: str = "Blocks"

    @property
    def name(self) -> str:
        return self.label


# ---------------------------------------------------------------- one row, or batch, after the other


@dataclass(frozen=True)
class Apply(Node):
    """What a user's function (or any other `Transform`) makes of the rows. ``pool``: by actors; None: by tasks.

    ``bundle_rows``: small blocks are brought together until they have so many rows, since the function wants batches of
    as many. ``repeatable``: that the same input gives the same output and does no harm when it is made again."""

    input: Node
    transform: Transform
    pool: Pool | None = None
    options: Options = Options()
    bundle_rows: int | None = None
    repeatable: bool = True

    @property
    def name(self) -> str:
        return self.transform.name


@dataclass(frozen=True)
class Filter(Node):
    """The rows for which an expression is true."""

    input: Node
    expr: Expr
    options: Options = Options()


@dataclass(frozen=True)
class Select(Node):
    """These columns, in this order."""

    input: Node
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Drop(Node):
    """All columns but these."""

    input: Node
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Rename(Node):
    """Columns under other names: pairs (old, new)."""

    input: Node
    names: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class WithColumns(Node):
    """More columns, or others under the same names: pairs (name, expression), each of which sees the input."""

    input: Node
    columns: tuple[tuple[str, Expr], ...]
    options: Options = Options()


# ---------------------------------------------------------------- which rows, and in which order


@dataclass(frozen=True)
class Limit(Node):
    """The first rows."""

    input: Node
    rows: int


@dataclass(frozen=True)
class Skip(Node):
    """All rows but the first."""

    input: Node
    rows: int


@dataclass(frozen=True)
class Resize(Node):
    """The same rows in blocks of so many. ``strict``: each but the last has exactly as many, whatever the input's are;
    otherwise blocks are cut where one ends anyway."""

    input: Node
    rows: int
    strict: bool = False


@dataclass(frozen=True)
class RandomizeBlocks(Node):
    """The blocks in another order. ``seed`` None: in another one each time."""

    input: Node
    seed: int | None = None


@dataclass(frozen=True)
class Union(_Several):
    """All rows of the first, then all of the second, ..."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class Zip(_Several):
    """Row by row the columns of all. A name that is there already gets a number behind it."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class Mix(_Several):
    """Blocks of all, in the proportion of the weights by rows. ``stop``: when the first has ended ("shortest"), or when
    the last has, with those that have ended left out ("longest_drop"). given: rows of each that were taken before."""

    nodes: tuple[Node, ...]
    weights: tuple[float, ...]
    stop: Literal["shortest", "longest_drop"] = "longest_drop"
    given: tuple[int, ...] = ()


@dataclass(frozen=True)
class Exchanged(_Several):
    """What an `Exchange` makes of all rows of one input, or of two. ``partitions`` None: by their bytes."""

    nodes: tuple[Node, ...]
    exchange: Exchange
    partitions: int | None = None
    options: Options = Options()

    @property
    def name(self) -> str:
        return self.exchange.name


@dataclass(frozen=True)
class Write(Node):
    """What a sink does with the rows. The rows of this node are what it says of what it has written."""

    input: Node
    sink: Sink
    options: Options = Options()

    @property
    def name(self) -> str:
        return f"Write{getattr(self.sink, 'name', type(self.sink).__name__)}"


def walk(node: Node) -> list[Node]:
    """All nodes of a plan, inputs before what uses them, each once."""
    found: list[Node] = []
    seen: set[int] = set()
    stack: list[tuple[Node, bool]] = [(node, False)]
    while stack:
        at, entered = stack.pop()
        if entered:
            found.append(at)
        elif id(at) not in seen:
            seen.add(id(at))
            stack.append((at, True))
            stack += [(one, False) for one in reversed(at.inputs)]
    return found
