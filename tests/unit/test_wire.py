"""The protocol as a whole: each message in one conversation, each tag in the range of its file and used once."""

from __future__ import annotations

from itertools import combinations

import msgspec

from hpc.core import wire
from hpc.core.wire.frames import CONVERSATIONS, messages_of


def tag_of(message: type[wire.Message]) -> int:
    tag = msgspec.inspect.type_info(message).tag  # type: ignore[attr-defined]
    assert isinstance(tag, int)
    return tag


def test_each_tag_is_in_the_range_of_its_file_and_used_once():
    tags = {message: tag_of(message) for one in CONVERSATIONS for message in messages_of(one)}
    assert len(tags) == len(set(tags.values())) > 100
    for one in CONVERSATIONS:
        outside = [message.__name__ for message in messages_of(one) if tags[message] not in one.TAGS]
        assert not outside, f"{one.__name__}: {outside} have tags outside {one.TAGS}"


def test_ranges_of_tags_are_apart():
    for one, other in combinations(CONVERSATIONS, 2):
        assert one.TAGS.stop <= other.TAGS.start or other.TAGS.stop <= one.TAGS.start, (one.__name__, other.__name__)


def test_each_message_can_be_read_and_imported_from_the_package():
    declared = {message for one in CONVERSATIONS for message in messages_of(one)}
    assert declared == set(wire.Message.__subclasses__()), "a file of messages is missing in CONVERSATIONS"
    assert not [message.__name__ for message in declared if getattr(wire, message.__name__, None) is not message]
