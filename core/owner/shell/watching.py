"""Watches on keys, the asker's side: one question at a time waits at the head, and its answer leads to the next.

The question stands with those that are asked again when another head takes the place of one that died (`asked`), so a
watch outlives heads. What was told, and what is asked next, is decided by `owner.watched`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from hpc.core import exceptions
from hpc.core.ids import HEAD
from hpc.core.owner.ports import Home
from hpc.core.owner.tables import Waiter
from hpc.core.owner.watched import Change, Watched
from hpc.core.wire import Answer, KvUnwatch

if TYPE_CHECKING:
    from hpc.core.owner.shell.conversation import Conversation, Pending


class KeyWatch:
    """The changes of one key, or of all that begin with it. One thread, or one coroutine, waits at a time."""

    def __init__(self, client: Home, conversation: Conversation, namespace: str, key: bytes, prefix: bool) -> None:
        self._watched = Watched(namespace, key, prefix)
        self._client = client
        self._conversation = conversation
        self._question: Pending | None = None
        self._closed = False

    def next(self, timeout_s: float | None = None) -> list[Change]:
        """What has changed since the last time, the oldest first, of each key the last change; the first time all keys
        that there are. Waits until there is something. [] if that takes longer than ``timeout_s`` seconds.

        Raises SessionLostError if the session is gone, ValueError if the watch is closed."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            waiter = self.waiter()
            left = None if until is None else max(0.0, until - time.monotonic())
            if not self._client.wait_for(waiter, left, for_others=True):
                return []
            changes = self.take()
            if changes:
                return changes

    def waiter(self, callback: Callable[[], None] | None = None) -> Waiter:
        """The waiter that the next answer wakes: the thread that sleeps, or ``callback``, outside of all locks."""
        client = self._client
        with client.lock:
            if self._closed:
                raise ValueError("the watch is closed")
            question = self._question
            if question is None:
                question = self._question = self._conversation.open(self._watched.question, Waiter(1))
                client.send_left()
            waiter = question.waiter
            waiter.callback = callback
            ready = waiter.needed <= 0
        if ready and callback is not None:
            callback()
        return waiter

    def take(self) -> list[Change]:
        """What the answer says; [] if there is none yet, or it has nothing new."""
        with self._client.lock:
            question = self._question
            if question is None or question.waiter.needed > 0:
                return []
            self._question = None
            answer = question.answer
        if answer is None:
            raise exceptions.SessionLostError(f"the session is gone: {self._client.lost}")
        assert isinstance(answer, Answer)
        if not answer.ok:
            raise exceptions.HpcError(f"the watch on {self._watched.key!r} has no answer: {answer.why}")
        return self._watched.learn(answer.data)

    def close(self) -> None:
        """Watch no more. Closing again changes nothing."""
        client = self._client
        with client.lock:
            question, self._question = self._question, None
            if self._closed or question is None:
                self._closed = True
                return
            self._closed = True
            if question.waiter.needed > 0 and not client.lost:
                self._conversation.drop(question)
                client.machine.send(HEAD, KvUnwatch(question.number, self._watched.namespace), urgent=False)

    def __del__(self) -> None:
        if not self._closed and self._question is not None and not self._client.lost:
            self._client.later(self.close)
