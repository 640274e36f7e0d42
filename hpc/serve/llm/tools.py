"""Calls of tools, read out of the text of a model as it comes. Pure.

Each family of models has its own way to write a call. A reader knows one of them, by the name that vLLM has for it.
What is no call, or becomes none, is text of the answer: nothing is lost. The arguments of a call are told as the model
writes them. Nobody has checked them: a model may write what is no JSON, and its answer may end within them.
"""

from __future__ import annotations

import json
import secrets
import string
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from hpc.serve.llm.text import begun

#: The letters of an id that templates of Mistral take, and how many there must be.
MISTRAL_LETTERS = string.ascii_letters + string.digits
MISTRAL_ID = 9


class CallPart(msgspec.Struct, frozen=True):
    """What a call got. `id` and `name` are there in its first part only; `arguments` is a piece of JSON text."""

    index: int
    arguments: str = ""
    id: str | None = None
    name: str | None = None


class Read(msgspec.Struct):
    """What a piece of text came to: text for the reader of the answer, and parts of calls."""

    text: str = ""
    calls: list[CallPart] = []

    def add(self, other: Read) -> None:
        self.text += other.text
        self.calls = [*self.calls, *other.calls]


class ObjectText:
    """One JSON object, character by character: which of its own keys have which text as their values so far.

    Texts are lists of characters: to add one to a text costs as much as the text is long."""

    def __init__(self) -> None:
        self.letters: list[str] = []
        #: The texts of the values, by their keys; the last one may go on.
        self.values: dict[str, list[str]] = {}
        #: The keys whose values are whole.
        self.whole: set[str] = set()
        self.is_whole = False
        self._depth = 0
        self._in_string = self._is_escaped = self._in_value = False
        self._key = ""
        #: Of the string that is open, unless it is part of a value.
        self._string_letters: list[str] = []
        self._name: str | None = None

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self.letters)

    def add(self, letter: str) -> None:
        """The next character. The first one opens the object."""
        self.letters.append(letter)
        if self._in_string:
            self._string(letter)
        elif letter == '"':
            self._in_string = True
            self._string_letters = []
            self._value(letter)
        elif letter in "{[":
            self._depth += 1
            if self._depth > 1:
                self._value(letter)
        elif letter in "}]":
            self._depth -= 1
            if self._depth == 0:
                self._end_value()
                self.is_whole = True
            else:
                self._value(letter)
        elif self._depth == 1 and letter == ":" and not self._in_value:
            self._in_value = True
            self.values[self._key] = []
        elif self._depth == 1 and letter == ",":
            self._end_value()
        else:
            self._value(letter)

    def _string(self, letter: str) -> None:
        self._value(letter)
        if self._is_escaped:
            self._is_escaped = False
        elif letter == "\\":
            self._is_escaped = True
        elif letter == '"':
            self._in_string = False
            if self._depth == 1 and not self._in_value:
                self._key = "".join(self._string_letters)
            return
        if not self._in_value:
            self._string_letters.append(letter)

    def _value(self, letter: str) -> None:
        if self._in_value and (self.values[self._key] or not letter.isspace()):
            self.values[self._key].append(letter)

    def _end_value(self) -> None:
        if self._in_value:
            value = self.values[self._key]
            del value[_end(value) :]
            self.whole.add(self._key)
            if self._key == "name":
                self._name = _name(value)
        self._in_value = False

    def name(self) -> str | None:
        """The text of the key `name`, once it is whole; None for what is none."""
        return self._name


def _end(letters: Sequence[str]) -> int:
    """The place behind the last character that is no space."""
    return next((place for place in range(len(letters), 0, -1) if not letters[place - 1].isspace()), 0)


def _name(value: Sequence[str]) -> str | None:
    try:
        found = json.loads("".join(value))
    except ValueError:
        return None
    return found if isinstance(found, str) and found else None


class Reader(ABC):
    """Reads one answer. `markers`: special tokens of the model whose text it has to see."""

    markers: Sequence[str] = ()
    #: How many calls are told; the model may write more.
    most: int | None = None

    def __init__(self) -> None:
        #: How many calls there are.
        self.count = 0
        self._kept = ""
        self._object: ObjectText | None = None
        #: Text that is lost if the object is a call, and how much of its arguments was told; None: it is no call yet.
        self._before = ""
        self._told: int | None = None

    def feed(self, text: str) -> Read:
        """What this text adds."""
        found = Read()
        self._kept += text
        while self._kept:
            step = self._in_object() if self._object is not None else self._outside()
            if step is None:
                break
            found.add(step)
        return self._told_of(found)

    def _told_of(self, read: Read) -> Read:
        if self.most is not None:
            read.calls = [part for part in read.calls if part.index < self.most]
        return read

    def end(self) -> Read:
        """What was kept back, now that nothing follows."""
        found = Read()
        if self._object is not None:
            if self._told is None:
                found.text = self._before + self._object.text
            self._object = None
        found.add(self._rest())
        self._kept = ""
        return self._told_of(found)

    @abstractmethod
    def _outside(self) -> Read | None:
        """Take some of what is kept. None: nothing can be said of it before more is there."""

    def _rest(self) -> Read:
        """What is kept at the end, outside of objects."""
        return Read("" if self.count and self._kept.isspace() else self._kept)

    def _open(self, before: str) -> None:
        """An object begins here. before: what belongs to it, and is text if it is no call."""
        self._object, self._before, self._told = ObjectText(), before, None

    def _in_object(self) -> Read | None:
        assert self._object is not None
        found = Read()
        for place, letter in enumerate(self._kept, 1):
            self._object.add(letter)
            if self._object.is_whole:
                self._kept = self._kept[place:]
                found.add(self._news())
                if self._told is None:
                    found.add(Read(self._before + self._object.text))
                self._object = None
                return found
        self._kept = ""
        return self._news()

    def _news(self) -> Read:
        """What is new of the call, if the object is one."""
        one = self._object
        assert one is not None
        key = next((key for key in ("arguments", "parameters") if key in one.values), None)
        name = one.name()
        if key is None or name is None or one.values[key][:1] != ["{"]:
            return Read()
        found = Read()
        if self._told is None:
            self._told = 0
            found.add(self._begin(name))
        # Space at the end may belong to the value, or come behind it.
        value = one.values[key]
        place = _end(value)
        if place > self._told:
            found.calls.append(CallPart(self.count - 1, "".join(value[self._told : place])))
            self._told = place
        return found

    def _begin(self, name: str) -> Read:
        self.count += 1
        return Read(calls=[CallPart(self.count - 1, id=self.new_id(), name=name)])

    def new_id(self) -> str:
        """An id for a call."""
        return f"call_{secrets.token_hex(12)}"

    def _text_before(self, marker: str) -> Read | None:
        """The text before a marker, or before what may be the beginning of one. Space before it is not told, since a
        marker may follow; neither is space behind a call."""
        at = self._kept.find(marker)
        place = at if at >= 0 else len(self._kept) - begun(self._kept, marker)
        text = self._kept[:place].rstrip()
        if not text:
            return None
        self._kept = self._kept[len(text) :]
        return Read(text)


class HermesReader(Reader):
    """<tool_call>{"name": ..., "arguments": {...}}</tool_call>, as Hermes and Qwen write it, between other text."""

    begin, close = "<tool_call>", "</tool_call>"

    def __init__(self) -> None:
        super().__init__()
        self._is_open = False
        #: Text that the tag is, as long as no call was found in it.
        self._tag = ""

    def _outside(self) -> Read | None:
        if self._is_open:
            return self._inside()
        if (text := self._text_before(self.begin)) is not None:
            return text
        at = self._kept.find(self.begin)
        if at < 0:
            return None
        self._is_open, self._tag = True, self.begin
        # Space before a call is no text.
        self._kept = self._kept[at + len(self.begin) :]
        return Read()

    def _inside(self) -> Read | None:
        kept = self._kept.lstrip()
        if kept.startswith(self.close):
            self._kept = kept[len(self.close) :]
            self._is_open = False
            return Read()
        if self.close.startswith(kept):
            return None
        if kept.startswith("{"):
            self._kept = kept
            self._open(self._tag)
            return Read()
        # No object: it is told as it stands.
        self._is_open = False
        self._kept = kept
        return Read(self._tag)

    def _in_object(self) -> Read | None:
        found = super()._in_object()
        if self._object is None and self._told is None:
            self._is_open = False
        self._tag = ""
        return found

    def _rest(self) -> Read:
        # A tag that was not closed is missed by nobody, once its call is there.
        return Read(self._tag + self._kept) if self._is_open else super()._rest()


class LlamaReader(Reader):
    """{"name": ..., "parameters": {...}}, as Llama 3 writes it: the answer is a call, or several with ; between."""

    markers = ("<|python_tag|>",)

    def __init__(self) -> None:
        super().__init__()
        self._is_text = False
        self._between = ""

    def _outside(self) -> Read | None:
        kept = self._kept
        if self._is_text:
            self._kept = ""
            return Read(kept)
        tag = self.markers[0]
        bare = kept.lstrip()
        if bare.startswith(tag):
            self._kept = bare[len(tag) :]
            return Read()
        if self.count and bare.startswith(";"):
            self._kept, self._between = bare[1:], "; "
            return Read()
        if not bare or tag.startswith(bare):
            return None
        if bare.startswith("{"):
            self._open(self._between if self.count else kept[: len(kept) - len(bare)])
            self._kept = bare
            return Read()
        self._is_text = True
        return Read()

    def _in_object(self) -> Read | None:
        found = super()._in_object()
        # An answer that is an object, but no call, has text behind it and no call.
        self._is_text = self._object is None and self._told is None
        return found


class MistralReader(Reader):
    """[TOOL_CALLS] and a list of {"name": ..., "arguments": {...}}. Newer models write a name and its arguments:
    [TOOL_CALLS]name{...}, with [CALL_ID] and [ARGS] between both or not."""

    markers = ("[TOOL_CALLS]", "[ARGS]", "[CALL_ID]")
    #: The longest name of a function.
    longest_name = 256

    def __init__(self) -> None:
        super().__init__()
        self._is_open = False
        self._in_list = False
        #: Text that the beginning of a list is, as long as no object was found in it.
        self._tag = ""

    def new_id(self) -> str:
        return "".join(secrets.choice(MISTRAL_LETTERS) for _ in range(MISTRAL_ID))

    def _outside(self) -> Read | None:
        mark = self.markers[0]
        if not self._is_open:
            if (text := self._text_before(mark)) is not None:
                return text
            at = self._kept.find(mark)
            if at < 0:
                return None
            self._is_open = True
            self._kept = self._kept[at + len(mark) :]
            return Read()
        kept = self._kept.lstrip()
        if not kept:
            return None
        if self._in_list:
            return self._listed(kept)
        if kept.startswith("["):
            self._in_list, self._tag = True, mark + "["
            self._kept = kept[1:]
            return Read()
        return self._named(kept)

    def _listed(self, kept: str) -> Read:
        self._kept = kept
        if kept[0] == "{":
            self._open(self._tag)
            return Read()
        found = Read()
        if kept[0] != ",":
            self._in_list = self._is_open = False
            found.text, self._tag = self._tag if kept[0] != "]" else "", ""
        self._kept = kept[1:] if kept[0] in ",]" else kept
        return found

    def _in_object(self) -> Read | None:
        found = super()._in_object()
        if self._object is None and self._told is None:
            self._in_list = self._is_open = False
        self._tag = ""
        return found

    def _named(self, kept: str) -> Read | None:
        head, brace, rest = kept.partition("{")
        name = head.partition(self.markers[2])[0].partition(self.markers[1])[0].strip()
        if not brace:
            return None if len(kept) < self.longest_name else self._no_call(kept)
        if not name or len(name.split()) > 1:
            return self._no_call(kept)
        self._is_open = False
        self._kept = "{" + rest
        self._object, self._before, self._told = NamedArguments(name), "", None
        return Read()

    def _no_call(self, kept: str) -> Read:
        self._is_open = False
        self._kept = ""
        return Read(self.markers[0] + kept)

    def _rest(self) -> Read:
        if self._is_open and self._kept.strip() and not self._in_list:
            return Read(self.markers[0] + self._kept)
        return Read(self._tag) if self._is_open else super()._rest()


class NamedArguments(ObjectText):
    """The arguments of a call whose name stood before them: all of the object is their value."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self.values = {"arguments": self.letters}

    def add(self, letter: str) -> None:
        super().add(letter)
        self.values = {"arguments": self.letters}

    def _value(self, letter: str) -> None:
        """The values within are parts of the whole one."""

    def _end_value(self) -> None:
        self._in_value = False


#: The readers by the names that vLLM has for them.
READERS: Mapping[str, Callable[[], Reader]] = {
    "hermes": HermesReader,
    "qwen": HermesReader,
    "llama3_json": LlamaReader,
    "mistral": MistralReader,
}


def reader_of(given: Mapping[str, Any]) -> tuple[Callable[[], Reader] | None, dict[str, Any]]:
    """The reader that `engine_kwargs` name, and the arguments without what says so: `tool_call_parser`, and vLLM's
    `enable_auto_tool_choice`. Raises ValueError for a name that is not there."""
    rest = dict(given)
    name, is_on = rest.pop("tool_call_parser", None), rest.pop("enable_auto_tool_choice", None)
    if name is None:
        if is_on:
            raise ValueError("engine_kwargs: enable_auto_tool_choice needs a tool_call_parser: " + ", ".join(READERS))
        return None, rest
    if name not in READERS:
        raise ValueError(f"engine_kwargs: tool_call_parser={name!r} is none of {', '.join(READERS)}")
    return (READERS[name] if is_on in (None, True) else None), rest
