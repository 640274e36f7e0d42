"""What the head keeps for all: names of actors and keys."""

from __future__ import annotations

from hpc.core.wire.base import Message

#: The tags of the messages of this file.
TAGS = range(144, 160)


class Answer(Message, tag=144):
    """The head's answer to a question."""

    req: int
    ok: bool
    data: bytes = b""
    why: str = ""


class NameRegister(Message, tag=145):
    """Give an actor a name. Fails when the name is taken by a living actor."""

    req: int
    namespace: str
    name: str
    actor: bytes
    handle: bytes


class NameLookup(Message, tag=146):
    """Find an actor by its name; an empty name lists all of the namespace."""

    req: int
    namespace: str
    name: str


class NameRelease(Message, tag=147):
    """The actor is dead: its name can be used again."""

    namespace: str
    name: str
    actor: bytes


class KvPut(Message, tag=148):
    """Set a key. The answer's data is its new version, as text, or b"0" where ``overwrite`` is false and it has one."""

    req: int
    namespace: str
    key: bytes
    value: bytes
    overwrite: bool = True


class KvGet(Message, tag=149):
    """Read a key; the answer is not ok where there is none."""

    req: int
    namespace: str
    key: bytes


class KvDelete(Message, tag=150):
    """Delete a key, or every key that begins with it; the answer's data is their number."""

    req: int
    namespace: str
    key: bytes
    prefix: bool = False


class KvKeys(Message, tag=151):
    """The keys that begin with ``key``, as a msgpack list of bytes."""

    req: int
    namespace: str
    key: bytes


class KvWatch(Message, tag=152):
    """What has changed since version ``seen`` of the key, or with ``prefix`` of the keys that begin with it? Answered
    when something has, which may be never. ``seen`` 0: the asker knows of no key, and wants those that there are.

    The answer's data is msgpack. It has the version up to which the asker knows all now. Then come all keys that there
    are, or None where the asker is to know others no more. Last comes (key, version, value) of what has changed, the
    value None if it is gone."""

    req: int
    namespace: str
    key: bytes
    prefix: bool
    seen: int


class KvUnwatch(Message, tag=153):
    """The asker does not wait for the answer to a `KvWatch` any more."""

    req: int
    namespace: str
