"""Which tokens an engine computes in its next step: continuous batching over paged memory. Pure: no clock, no I/O.

A step takes sequences in one order: by priority, then by arrival.

* A sequence that runs gets memory for its next token before any that is behind it. If there is none, the last one
  in the order loses its memory and is computed again later (it keeps its tokens).
* A sequence that waits is admitted when all its tokens have room. The first one that has none holds back all that are
  behind it, so nobody is overtaken within a priority. It takes memory only from sequences of lower priority.
* A long prompt is computed in chunks, beside the next tokens of the others, so that none of them waits for it.
* A prompt that begins as an earlier one began takes over the blocks of that, as far as they are the same.

The ideas are those of Orca (iterations, not requests, are scheduled), vLLM (pages, sharing, preemption by computing
again) and Sarathi (chunked prefill).
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from hpc.serve.llm.blocks import Blocks, key_of
from hpc.serve.llm.engine import TooLong

#: How a sequence ends in the scheduler: by a stop token or by its length.
End = Literal["stop", "length"]


class SchedulerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of a step. max_batch_tokens: how many tokens it computes; max_running: of how many sequences."""

    num_blocks: int = 1024
    block_size: int = 16
    max_batch_tokens: int = 512
    max_running: int = 64
    context_length: int = 4096
    share_prefixes: bool = True

    def __post_init__(self) -> None:
        for name in ("num_blocks", "block_size", "max_batch_tokens", "max_running", "context_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: it must be at least 1")
        if self.max_batch_tokens < self.max_running:
            raise ValueError(
                f"max_batch_tokens={self.max_batch_tokens} is less than max_running={self.max_running}: "
                "each running sequence needs a token of each step"
            )


class Served(msgspec.Struct, kw_only=True, eq=False):
    """A sequence on its way.

    computed: for how many of its tokens its blocks have what later ones need. named: how many of its blocks others
    may share."""

    id: str
    tokens: list[int]
    prompt: int
    most: int
    stop_tokens: frozenset[int]
    priority: int
    arrival: int
    salt: bytes
    blocks: list[int] = msgspec.field(default_factory=list)
    keys: list[bytes] = msgspec.field(default_factory=list)
    computed: int = 0
    named: int = 0
    cached: int = 0
    is_running: bool = False

    @property
    def needs(self) -> int:
        """How many tokens are to be computed before the next one is known."""
        return len(self.tokens) - self.computed


def order(one: Served) -> tuple[int, int]:
    """By what sequences are served: priority, then arrival."""
    return (-one.priority, one.arrival)


class Chunk(msgspec.Struct, frozen=True):
    """What to compute of one sequence: its tokens from `start` on, into its blocks. `samples`: then the next token."""

    id: str
    start: int
    tokens: list[int]
    blocks: tuple[int, ...]
    samples: bool


class Outcome(msgspec.Struct, frozen=True):
    """A sequence got a token. `end`: it was the last one; a stop token is not one of the sequence's."""

    id: str
    token: int
    end: End | None
    cached: int


class Scheduler:
    """Add and cancel sequences; then again and again `plan` a step, compute it, and say what came out to `commit`."""

    def __init__(self, config: SchedulerConfig) -> None:
        self.config = config
        self.blocks = Blocks(config.num_blocks, config.block_size)
        self.prefix_hits = 0
        self.preempted = 0
        self._arrivals = 0
        self._all: dict[str, Served] = {}
        #: Both in the order of service.
        self._running: list[Served] = []
        self._waiting: list[Served] = []
        self._cancelled: list[str] = []
        self._planned: list[Chunk] | None = None

    # -------------------------------------------------------------- questions

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def has_work(self) -> bool:
        return bool(self._all)

    def __contains__(self, sequence_id: str) -> bool:
        return sequence_id in self._all

    # -------------------------------------------------------------- events

    def add(
        self,
        sequence_id: str,
        tokens: Sequence[int],
        max_tokens: int,
        stop_tokens: frozenset[int] = frozenset(),
        priority: int = 0,
        adapter: str = "",
    ) -> None:
        """Take a sequence. Raises TooLong for a prompt that has no room, ValueError for an id that is there."""
        if sequence_id in self._all:
            raise ValueError(f"a sequence with the id {sequence_id!r} is being served already")
        if not tokens or max_tokens < 1:
            raise ValueError(f"{len(tokens)} prompt tokens and max_tokens={max_tokens}: both must be at least 1")
        room = min(self.config.context_length, self.config.num_blocks * self.config.block_size)
        if len(tokens) >= room:
            raise TooLong(f"the prompt has {len(tokens)} tokens; at most {room - 1} leave room for an answer")
        one = Served(
            id=sequence_id,
            tokens=list(tokens),
            prompt=len(tokens),
            most=min(max_tokens, room - len(tokens)),
            stop_tokens=stop_tokens,
            priority=priority,
            arrival=self._arrivals,
            salt=key_of(b"", list(adapter.encode())) if adapter else b"",
        )
        self._arrivals += 1
        self._all[sequence_id] = one
        insort(self._waiting, one, key=order)

    def cancel(self, sequence_id: str) -> bool:
        """End a sequence: its blocks are free from the next step on. Returns whether it was there."""
        if sequence_id not in self._all or sequence_id in self._cancelled:
            return False
        self._cancelled.append(sequence_id)
        return True

    # -------------------------------------------------------------- a step

    def plan(self) -> list[Chunk]:
        """What to compute now. `commit` comes before the next plan."""
        if self._planned is not None:
            raise RuntimeError("the step before this one has not been committed")
        for sequence_id in self._cancelled:
            self._remove(self._all[sequence_id])
        self._cancelled.clear()
        chunks: list[Chunk] = []
        budget = self.config.max_batch_tokens
        is_full = False
        preempted = self.preempted
        for one in heapq.merge(list(self._running), list(self._waiting), key=order):
            was_running = one.is_running
            if not was_running and (is_full or self.preempted > preempted):
                continue
            # A sequence that is behind and needs one token only gets it, however long the prompts before it are.
            room = budget if was_running and one.needs == 1 else budget - self._single_behind(one)
            if room < 1:
                is_full = is_full or not was_running
            elif self._has_room(one) if was_running else self._admit(one):
                chunk = self._chunk(one, min(room, one.needs))
                chunks.append(chunk)
                budget -= len(chunk.tokens)
            elif not was_running:
                is_full = True
        self._planned = chunks
        return chunks

    def commit(self, sampled: Mapping[str, int]) -> list[Outcome]:
        """Take what the planned step has computed: for each chunk that samples, the next token."""
        if self._planned is None:
            raise RuntimeError("no step has been planned")
        chunks, self._planned = self._planned, None
        outcomes = []
        for chunk in chunks:
            one = self._all[chunk.id]
            one.computed += len(chunk.tokens)
            self._name_full(one)
            if chunk.samples and one.id not in self._cancelled:
                outcomes.append(self._grow(one, sampled[one.id]))
        return outcomes

    def _grow(self, one: Served, token: int) -> Outcome:
        end: End | None = "stop" if token in one.stop_tokens else None
        if end is None:
            one.tokens.append(token)
            if len(one.tokens) - one.prompt >= one.most:
                end = "length"
        if end is not None:
            self._remove(one)
        return Outcome(one.id, token, end, one.cached)

    def _chunk(self, one: Served, count: int) -> Chunk:
        end = one.computed + count
        tokens = one.tokens[one.computed : end]
        return Chunk(one.id, one.computed, tokens, tuple(one.blocks), end == len(one.tokens))

    def _single_behind(self, one: Served) -> int:
        """How many running sequences behind this one need one token only."""
        behind = bisect_left(self._running, order(one), key=order)
        return sum(other.needs == 1 and other is not one for other in self._running[behind:])

    # -------------------------------------------------------------- memory

    def _has_room(self, one: Served) -> bool:
        """Whether a running sequence has a block for its last token, taken from those behind it if need be."""
        while len(one.blocks) < self.blocks.needed(len(one.tokens)):
            if self.blocks.free:
                one.blocks.append(self.blocks.take())
                continue
            last = self._running[-1]
            self._preempt(last)
            if last is one:
                return False
        return True

    def _admit(self, one: Served) -> bool:
        """Begin, or begin again, with a sequence, if all its tokens have room."""
        shared = self._shared(one)
        wanted = self.blocks.needed(len(one.tokens)) - len(shared)
        wanted += sum(self.blocks.is_left(block) for block in shared)
        victims = self._victims(one, wanted, frozenset(shared))
        if victims is None:
            return False
        for block in shared:
            self.blocks.share(block)
        for victim in victims:
            self._preempt(victim)
        one.blocks = [*shared]
        while len(one.blocks) < self.blocks.needed(len(one.tokens)):
            one.blocks.append(self.blocks.take())
        one.named = len(shared)
        one.computed = len(shared) * self.config.block_size
        self.prefix_hits += one.computed
        if len(one.tokens) == one.prompt:
            one.cached = one.computed
        one.is_running = True
        self._waiting.remove(one)
        insort(self._running, one, key=order)
        return True

    def _victims(self, one: Served, wanted: int, shared: frozenset[int]) -> list[Served] | None:
        """Which running sequences of lower priority make room for this one, the last first; None: there is no room.

        wanted: how many blocks it takes. shared: those that it takes over, so that they do not become free."""
        victims: list[Served] = []
        freed: Counter[int] = Counter()
        free = self.blocks.free
        for last in [None, *reversed(self._running)]:
            if last is not None:
                if last.priority >= one.priority:
                    return None
                victims.append(last)
                for block in last.blocks:
                    freed[block] += 1
                    free += block not in shared and freed[block] == self.blocks.users(block)
            left = len(self._running) - len(victims)
            # One block stays free for the next token of those that run: else one of them would soon be computed again.
            if left < self.config.max_running and free >= wanted + (left > 0):
                return victims
        return None

    def _preempt(self, one: Served) -> None:
        self.preempted += 1
        self.blocks.give_back(one.blocks)
        one.blocks = []
        one.computed = one.named = 0
        one.is_running = False
        self._running.remove(one)
        insort(self._waiting, one, key=order)

    def _remove(self, one: Served) -> None:
        self.blocks.give_back(one.blocks)
        del self._all[one.id]
        (self._running if one.is_running else self._waiting).remove(one)

    def _key(self, one: Served, index: int) -> bytes:
        """The key of a sequence's full block."""
        size = self.config.block_size
        while len(one.keys) <= index:
            start = len(one.keys) * size
            one.keys.append(key_of(one.keys[-1] if one.keys else one.salt, one.tokens[start : start + size]))
        return one.keys[index]

    def _shared(self, one: Served) -> list[int]:
        """The blocks that have the beginning of a sequence already. Its last token is computed in any case."""
        found: list[int] = []
        if self.config.share_prefixes:
            for index in range((len(one.tokens) - 1) // self.config.block_size):
                if (block := self.blocks.find(self._key(one, index))) is None:
                    break
                found.append(block)
        return found

    def _name_full(self, one: Served) -> None:
        while self.config.share_prefixes and one.named < one.computed // self.config.block_size:
            self.blocks.name(one.blocks[one.named], self._key(one, one.named))
            one.named += 1
