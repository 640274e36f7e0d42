"""Blocks that are lost with a node, and that the runtime cannot make again: the part that made them runs once more.

The runtime makes again what tasks have made of what tasks have made. It cannot do that for what actors have made, nor
for what tasks have made of it if that is lost as well. So an operator with a pool, and all below one, remember how
each block came to be, as long as somebody needs it. The *origin* of a block keeps the inputs of its part. When work
finds one of its inputs lost, it is held until the part has run again, whose blocks take the places of those before.
The inputs of the part may be lost too: then it is held in its turn. What nobody needs any more is not made again. The
consumer needs a block until it has read it: a run that may have to make blocks again goes on until then.

A session of one node remembers nothing: what is lost there is lost with the driver.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hpc.data.exec.operators import Operator
from hpc.data.exec.work import Block, Origin, Part, Work


class Recovery:
    """The origins of a run. Pure: it changes blocks and the queues of operators alone.

    release: lets go of a block that an origin has kept. moved: a block lies on another node now. found: a lost block is
    there again."""

    def __init__(
        self,
        ops: Sequence[Operator],
        release: Callable[[Block], None],
        moved: Callable[[Block, str], None],
        found: Callable[[Block], None],
    ) -> None:
        self._release, self._moved, self._when_found = release, moved, found
        self._ops = ops
        #: Whether what is lost may be made again. Only then is anything remembered.
        self.is_on = False
        #: How many blocks are lost now.
        self.lost = 0
        for op in ops:
            once = op.options.remote.get("max_retries") == 0 or op.takes_at_end
            op.is_fragile = not once and (op.pool is not None or any(up.is_fragile for up in (*op.ups, *op.beside)))

    def made(self, work: Work, block: Block) -> None:
        """A block has come for the first time."""
        part = work.part
        if not work.seen and self.is_on and work.op.is_fragile:
            part.origin = Origin(work.op, part, work.body, work.wants_values)
        if part.origin is not None:
            part.origin.add(block)

    def made_again(self, work: Work, block: Block) -> None:
        """A block of the part at hand has come again: it takes its own place, where that is needed."""
        origin = work.part.origin
        before = origin.blocks[work.seen] if origin is not None and work.seen < len(origin.blocks) else None
        if before is None:
            return
        before.ref = block.ref
        self._moved(before, block.node)
        if before.lost:
            self._found(before)

    def is_needed_again(self, block: Block) -> bool:
        """A block is lost. Whether it can be made again; that begins."""
        origin = block.origin
        if origin is None:
            return False
        if not block.lost:
            block.lost = True
            self.lost += 1
        self._look_at(origin)
        return True

    def part_ended(self, part: Part) -> None:
        """The part runs no more: its inputs are kept as long as what it has made is needed."""
        origin = part.origin
        if origin is None:
            for block in part.blocks:
                self._release(block)
            return
        origin.is_over = True
        self._look_at(origin)

    def part_made_again(self, part: Part) -> None:
        """The part has run again, or will not run again."""
        assert part.origin is not None
        part.origin.again = None
        self._look_at(part.origin)

    def unneeded(self, block: Block) -> None:
        """Nobody needs a block any more."""
        origin, block.origin = block.origin, None
        assert origin is not None
        origin.blocks[origin.blocks.index(block)] = None
        origin.live -= 1
        if block.lost:
            block.lost = False
            self.lost -= 1
        self._look_at(origin)

    def again(self, work: Work) -> None:
        """A piece of work is to be done once more: now, or when its inputs are there again."""
        op = work.op
        if work.remakes:
            work.part.origin.again = work  # type: ignore[union-attr]
        if self.lost and any(block.lost for block in work.blocks):
            op.held.append(work)
            return
        queue = op.remakes if work.remakes else op.again
        queue.append(work)
        queue.sort(key=lambda one: one.parts[0].seq)

    def _found(self, block: Block) -> None:
        block.lost = False
        self.lost -= 1
        self._when_found(block)
        for op in self._ops:
            held, op.held = op.held, []
            for work in held:
                self.again(work)

    def _look_at(self, origin: Origin) -> None:
        """Begin to make again what is lost, or forget what nobody needs."""
        if not origin.is_over or origin.again is not None:
            return
        if not origin.live:
            part = origin.part
            part.origin = None
            for block in part.blocks:
                self._release(block)
        elif any(block is not None and block.lost for block in origin.blocks):
            work = Work(origin.op, [origin.part], origin.body, origin.wants_values)
            work.remakes = True
            work.digests, work.replay = list(origin.marks), len(origin.marks)
            self.again(work)
