"""Between text and tokens: tokenizers, text that comes token by token, and strings that stop it. Pure."""

from __future__ import annotations

import codecs
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from hpc.serve.llm.engine import NotOffered
from hpc.serve.llm.template import render

#: What stands for bytes that are no text.
HOLE = "\ufffd"


class Tokenizer(ABC):
    """What a model's tokens mean."""

    #: The tokens that end an answer.
    ends: frozenset[int] = frozenset()

    @abstractmethod
    def encode(self, text: str, add_special: bool = True) -> list[int]:
        """The tokens of a text. add_special: with those that the model expects around it."""

    @abstractmethod
    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, without those that are none."""

    @abstractmethod
    def name(self, token: int) -> tuple[str, bytes | None]:
        """How one token is shown, and its bytes if they are known."""

    @abstractmethod
    def stream(self, markers: Sequence[str] = ()) -> Stream:
        """What makes text of the tokens of one answer as they come. markers: special tokens that are text here."""

    @abstractmethod
    def chat(self, messages: Sequence[Mapping[str, Any]], more: Mapping[str, Any]) -> str:
        """The prompt for a conversation. more: `tools` and others that its template may use."""


class Stream(ABC):
    """The text of one answer. What is not a whole character yet is kept back."""

    @abstractmethod
    def feed(self, tokens: Sequence[int]) -> str:
        """What these tokens add to the text."""

    @abstractmethod
    def end(self) -> str:
        """What was kept back, with holes for what is no character."""


class ByteTokenizer(Tokenizer):
    """A byte is a token. Others above 255 have no text."""

    def __init__(self, begin: int | None = None, end: int | None = None) -> None:
        self.begin = begin
        self.ends = frozenset(() if end is None else (end,))

    def encode(self, text: str, add_special: bool = True) -> list[int]:
        begin = [self.begin] if add_special and self.begin is not None else []
        return [*begin, *text.encode()]

    def decode(self, tokens: Sequence[int]) -> str:
        return bytes(token for token in tokens if token < 256).decode(errors="replace")

    def name(self, token: int) -> tuple[str, bytes | None]:
        if token >= 256:
            return f"<|{token}|>", None
        return bytes((token,)).decode(errors="replace"), bytes((token,))

    def stream(self, markers: Sequence[str] = ()) -> Stream:
        return ByteStream()

    def chat(self, messages: Sequence[Mapping[str, Any]], more: Mapping[str, Any]) -> str:
        """A line for each message, with its role before it; the tools are a line of their own."""
        if unknown := sorted(set(more) - {"tools"}):
            raise NotOffered(f"this model's template has no {unknown[0]}: leave it out", "chat_template_kwargs")
        tools = [f"tools: {more['tools']}\n"] if more.get("tools") else []
        return "".join([*tools, *(f"{one['role']}: {one.get('content') or ''}\n" for one in messages), "assistant: "])


class ByteStream(Stream):
    """Bytes become characters when their last byte is there."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, tokens: Sequence[int]) -> str:
        return self._decoder.decode(bytes(token for token in tokens if token < 256))

    def end(self) -> str:
        return self._decoder.decode(b"", final=True)


class PieceTokenizer(Tokenizer):
    """A tokenizer of transformers, with the template of its model. `own` is the tokenizer itself."""

    def __init__(self, own: Any, ends: frozenset[int] = frozenset()) -> None:
        self.own = own
        self.ends = ends or frozenset(() if own.eos_token_id is None else (own.eos_token_id,))

    def encode(self, text: str, add_special: bool = True) -> list[int]:
        return list(self.own.encode(text, add_special_tokens=add_special))

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self.own.decode(tokens, skip_special_tokens=True))

    def name(self, token: int) -> tuple[str, bytes | None]:
        text = str(self.own.decode([token], skip_special_tokens=False))
        return text, None if HOLE in text else text.encode()

    def stream(self, markers: Sequence[str] = ()) -> Stream:
        special = {token: text for text in markers if (token := self._left_out(text)) is not None}
        if not special:
            return PieceStream(self.decode)

        def decode(tokens: Sequence[int]) -> str:
            text = ""
            run: list[int] = []
            for token in tokens:
                if token in special:
                    text += self.decode(run) + special[token]
                    run = []
                else:
                    run.append(token)
            return text + self.decode(run)

        return PieceStream(decode)

    def _left_out(self, text: str) -> int | None:
        """The token of a special text that `decode` leaves out. `all_special_tokens` has only those with a role."""
        token: int | None = self.own.convert_tokens_to_ids(text)
        if token is None or self.own.convert_ids_to_tokens([token]) != [text]:
            return None
        return None if text in self.decode([token]) else token

    def chat(self, messages: Sequence[Mapping[str, Any]], more: Mapping[str, Any]) -> str:
        template = self.own.chat_template
        if isinstance(template, dict):
            template = template.get("tool_use" if more.get("tools") and "tool_use" in template else "default")
        if not template:
            raise NotOffered(
                "the model's tokenizer has no chat template: use /v1/completions, or give tokenizer_source a "
                "tokenizer that has one",
                "messages",
            )
        if more.get("tools") and "tools" not in template:
            raise NotOffered("the model's chat template knows no tools: leave them out", "tools")
        special = {name: str(text) for name, text in self.own.special_tokens_map.items() if isinstance(text, str)}
        return render(template, **{"add_generation_prompt": True, **special, **more, "messages": list(messages)})


class PieceStream(Stream):
    """Text of pieces that mean different things together than alone.

    The pieces since the last whole character are read together with the ones before them: what the longer text has more
    is new. A text that ends in a hole waits, since the next piece may fill it."""

    #: How many holes at the end of a text the next pieces may fill: the bytes of a character but for its last one.
    MOST_OPEN = 3
    #: Pieces that are read together at most, should their text end in a hole each time.
    MOST_READ = 128

    def __init__(self, decode: Any) -> None:
        self._decode = decode
        self._tokens: list[int] = []
        #: How many of the tokens are read already, and how many characters of their text were shown.
        self._read = 0
        self._shown = 0

    def feed(self, tokens: Sequence[int]) -> str:
        return "".join(self._add(token) for token in tokens)

    def end(self) -> str:
        text: str = self._decode(self._tokens)
        new, self._shown = text[self._shown :], len(text)
        return new

    def _add(self, token: int) -> str:
        self._tokens.append(token)
        text: str = self._decode(self._tokens)
        is_open = text.endswith(HOLE) and len(self._tokens) < self.MOST_READ
        whole = text[: len(text) - self._holes(text)] if is_open else text
        new = whole[self._shown :]
        self._shown = max(self._shown, len(whole))
        if new and not is_open:
            # What is behind the reader is needed no more: a long answer costs no more per token than a short one.
            del self._tokens[: self._read]
            self._read = len(self._tokens)
            self._shown = len(self._decode(self._tokens))
        return new

    def _holes(self, text: str) -> int:
        return next(
            (n for n in range(self.MOST_OPEN) if text[len(text) - n - 1 : len(text) - n] != HOLE), self.MOST_OPEN
        )


class Stops:
    """Strings that end an answer. What could be the beginning of one is kept back until it is known."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._kept = ""
        self.found: str | None = None

    def feed(self, text: str) -> str:
        """What may be shown now. Once `found` is not None, nothing more is."""
        if self.found is not None:
            return ""
        text = self._kept + text
        # The one that is whole first, however the text is cut into parts; of two that end together the longer one.
        places = [(at + len(stop), at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if places:
            _, at, self.found = min(places)
            self._kept = ""
            return text[:at]
        keep = max((begun(text, stop) for stop in self._stops), default=0)
        self._kept = text[len(text) - keep :]
        return text[: len(text) - keep]

    def end(self) -> str:
        """What was kept back, now that nothing follows."""
        kept, self._kept = self._kept, ""
        return kept if self.found is None else ""


def begun(text: str, stop: str) -> int:
    """How many characters at the text's end are the beginning of the string."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
