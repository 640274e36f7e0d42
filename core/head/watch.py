"""Watches on keys: a process asks what has changed since a version that it knows, and is answered at the next change.

Each change of a key gets the session's next number, the key's *version*. A question (`KvWatch`) names a key or a prefix
and the last version that its asker was told. The answer has the state and not the history. Of a key that was set five
times since then it has the last value, of one that is gone that it is gone. So nothing is lost and nothing piles up,
however slow a watcher is. A question that had no answer can be asked again, of another head too.

What a restarted head must know, the versions, stands with the keys in its journal. Which keys are gone it need not
know. To a watcher whose version is older than the deletions it can tell, it says *all* keys that there are.

Rejected: telling each change to subscribers, since a restarted head does not know what each has heard. Rejected too:
answering after some time although nothing has changed, to be asked again. A thousand processes would ask the head for
ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from hpc.core.ids import Address
from hpc.core.wire import MAX_VALUES_BYTES, KvUnwatch, KvWatch

#: Deleted keys whose deletions can be told one by one; to a watcher that has missed more all keys are told.
MAX_GONE = 10_000

#: A namespace and a key.
Key = tuple[str, bytes]


class Watches:
    """The versions of all keys, and the questions that wait for changes. ``answer(src, req, data)`` sends an answer."""

    def __init__(self, values: dict[Key, bytes], answer: Callable[[Address, int, bytes], None]) -> None:
        self.version = 0
        self._values = values
        self._answer = answer
        #: By namespaces: keys and their versions.
        self._versions: dict[str, dict[bytes, int]] = {}
        #: Deleted keys in the order of their versions, and the version up to which deletions are not known any more.
        self._gone: dict[Key, int] = {}
        self._floor = 0
        #: By namespaces: the questions, by their askers and numbers.
        self._waiting: dict[str, dict[tuple[Address, int], KvWatch]] = {}
        #: Keys that have changed since the last answers.
        self._changed: dict[Key, None] = {}

    # -------------------------------------------------------------- keys

    def set(self, key: Key) -> int:
        """The key has a new value. Returns its version."""
        self.version += 1
        self._note(key, self.version)
        self._changed[key] = None
        return self.version

    def delete(self, key: Key) -> int:
        """The key is gone. Returns the version of that."""
        self.version += 1
        self._forget(key)
        self._gone[key] = self.version
        self._changed[key] = None
        while len(self._gone) > MAX_GONE:
            oldest = next(iter(self._gone))
            self._floor = self._gone.pop(oldest)
        return self.version

    def version_of(self, key: Key) -> int:
        """The version of a key that is there."""
        return self._versions[key[0]][key[1]]

    def _note(self, key: Key, version: int) -> None:
        self._gone.pop(key, None)
        self._versions.setdefault(key[0], {})[key[1]] = version

    def _forget(self, key: Key) -> None:
        space = self._versions.get(key[0], {})
        space.pop(key[1], None)
        if not space:
            self._versions.pop(key[0], None)

    # -------------------------------------------------------------- what a restarted head must know

    def restore(self, key: Key, version: int, there: bool) -> None:
        """Take over a change from the journal."""
        self.version = max(self.version, version)
        if there:
            self._note(key, version)
        else:
            self._forget(key)

    def begin(self) -> None:
        """All of the journal is read. The deletions before are not known any more."""
        self._floor = self.version

    def changes(self) -> Iterable[tuple[bytes, Any]]:
        """Nothing: the versions are journaled with the keys."""
        return ()

    def rows(self) -> Iterator[tuple[bytes, Any]]:
        """The last version, which may be that of a key that is gone."""
        yield b"", self.version

    def load(self, key: bytes, data: Any) -> None:
        """Take over the last version."""
        self.version = max(self.version, data)

    # -------------------------------------------------------------- questions

    def on_watch(self, src: Address, msg: KvWatch) -> None:
        """Answer at once if something has changed already, else at the next change. Asked again under the same number
        it is one question."""
        data = self._news(msg)
        if data is None:
            self._waiting.setdefault(msg.namespace, {})[src, msg.req] = msg
        else:
            self.on_unwatch(src, KvUnwatch(msg.req, msg.namespace))
            self._answer(src, msg.req, data)

    def on_unwatch(self, src: Address, msg: KvUnwatch) -> None:
        """Nobody waits for the answer any more."""
        self._drop(msg.namespace, [(src, msg.req)])

    def answer_changed(self) -> None:
        """Answer those who wait for what has changed since the last time: once, however much that is."""
        changed, self._changed = self._changed, {}
        spaces: dict[str, list[bytes]] = {}
        for space, key in changed:
            if space in self._waiting:
                spaces.setdefault(space, []).append(key)
        for space, keys in spaces.items():
            told: list[tuple[Address, int]] = []
            #: Many ask the same: the answer is looked up and packed once.
            made: dict[tuple[bytes, bool, int], bytes | None] = {}
            for number, msg in self._waiting[space].items():
                which = msg.key, msg.prefix, msg.seen
                if which not in made:
                    made[which] = self._news(msg, keys)
                data = made[which]
                if data is not None:
                    told.append(number)
                    self._answer(*number, data)
            self._drop(space, told)

    def process_gone(self, addr: Address) -> None:
        """A process has ended: it waits for nothing any more."""
        self._drop_where(lambda src: src == addr)

    def node_gone(self, node: int) -> None:
        """A node is gone, with its processes."""
        self._drop_where(lambda src: src.node == node)

    @property
    def waiting(self) -> int:
        """How many questions wait."""
        return sum(len(questions) for questions in self._waiting.values())

    def _drop_where(self, is_meant: Callable[[Address], bool]) -> None:
        for space in list(self._waiting):
            self._drop(space, [number for number in self._waiting[space] if is_meant(number[0])])

    def _drop(self, space: str, numbers: Iterable[tuple[Address, int]]) -> None:
        questions = self._waiting.get(space, {})
        for number in numbers:
            questions.pop(number, None)
        if not questions:
            self._waiting.pop(space, None)

    def _news(self, msg: KvWatch, changed: list[bytes] | None = None) -> bytes | None:
        """The answer to a question, if there is something to tell. One that waits knows all but what has ``changed``
        just now."""
        found = None if changed is None else self._among(msg, changed)
        present = self._present(msg) if found is None and 0 < msg.seen < self._floor else None
        found = self._since(msg) if found is None else found
        if not found and present is None:
            return None
        upto, size = self.version, 0
        rows: list[tuple[bytes, int, bytes | None]] = []
        for version, key in found:
            value = self._values.get((msg.namespace, key))
            size += len(key) + len(value or b"")
            if rows and size > MAX_VALUES_BYTES:
                upto = rows[-1][1]  # the asker knows all up to there, and asks for the rest
                break
            rows.append((key, version, value))
        return msgspec.msgpack.encode((upto, present, rows))

    def _among(self, msg: KvWatch, changed: list[bytes]) -> list[tuple[int, bytes]] | None:
        """As `_since`, of these keys only; None where a deletion is not known any more."""
        space = self._versions.get(msg.namespace, {})
        found = []
        for key in changed:
            if _is_meant(msg, key):
                version = space.get(key) or self._gone.get((msg.namespace, key))
                if version is None:
                    return None
                if version > msg.seen and (msg.seen or key in space):
                    found.append((version, key))
        return sorted(found)

    def _present(self, msg: KvWatch) -> list[bytes]:
        """The keys that there are."""
        return [key for key in self._versions.get(msg.namespace, {}) if _is_meant(msg, key)]

    def _since(self, msg: KvWatch) -> list[tuple[int, bytes]]:
        """Versions and keys of what has changed since the asker was told last, the oldest first."""
        space = self._versions.get(msg.namespace, {})
        if msg.prefix:
            found = [(version, key) for key, version in space.items() if version > msg.seen and key.startswith(msg.key)]
        else:
            version = space.get(msg.key, 0)
            found = [(version, msg.key)] if version > msg.seen else []
        for (namespace, key), version in reversed(self._gone.items()):
            if version <= msg.seen:
                break
            if msg.seen and namespace == msg.namespace and _is_meant(msg, key):
                found.append((version, key))
        return sorted(found)


def _is_meant(msg: KvWatch, key: bytes) -> bool:
    """Whether a key is one of those that are watched."""
    return key.startswith(msg.key) if msg.prefix else key == msg.key
