"""Text of tokens: characters that come in parts, strings that stop it wherever it is cut, templates in a sandbox."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hpc.serve.llm.choice import Choice
from hpc.serve.llm.engine import Delta, NotOffered, TokenLogprob
from hpc.serve.llm.template import TemplateError, render
from hpc.serve.llm.text import HOLE, ByteTokenizer, PieceStream, PieceTokenizer, Stops

WORDS = st.text(alphabet="abcé→😀", max_size=30)


def cut(data: Sequence[Any], places: list[int]) -> list[Sequence[Any]]:
    """A sequence in parts that end at these places."""
    bounds = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(bounds)]


@given(text=WORDS, places=st.lists(st.integers(0, 200)))
def test_bytes_become_whole_characters(text: str, places: list[int]) -> None:
    stream = ByteTokenizer().stream()
    parts = [stream.feed(part) for part in cut([*text.encode()], places)]
    assert "".join(parts) + stream.end() == text
    assert not any(HOLE in part for part in parts)


def test_bytes_that_are_no_character_are_a_hole() -> None:
    stream = ByteTokenizer().stream()
    assert stream.feed([0xC3]) == ""
    assert stream.feed([0x41]) == HOLE + "A"
    assert stream.feed([0xE2, 0x86]) == ""
    assert stream.end() == HOLE


@given(tokens=st.lists(st.integers(0, 255), max_size=40), places=st.lists(st.integers(0, 200)))
def test_any_bytes_are_read_as_they_are_whole(tokens: list[int], places: list[int]) -> None:
    stream = ByteTokenizer().stream()
    parts = "".join(stream.feed(part) for part in cut(tokens, places))
    assert parts + stream.end() == bytes(tokens).decode(errors="replace")


@given(text=WORDS, size=st.integers(1, 3))
def test_pieces_become_whole_characters(text: str, size: int) -> None:
    """Pieces of so many bytes, as tokenizers of models have them: a character may be cut into several."""
    data = text.encode()
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    stream = PieceStream(lambda tokens: b"".join(pieces[token] for token in tokens).decode(errors="replace"))
    parts = [stream.feed([token]) for token in range(len(pieces))]
    assert "".join(parts) + stream.end() == text
    assert not any(HOLE in part for part in parts)


def test_a_space_that_only_the_piece_before_shows_is_kept() -> None:
    """Some tokenizers leave out the space before the first word of what they decode."""

    def decode(tokens: Sequence[int]) -> str:
        return "".join([" one", " two", " three"][token] for token in tokens).removeprefix(" ")

    stream = PieceStream(decode)
    assert [stream.feed([token]) for token in (0, 1, 2)] == ["one", " two", " three"]


def test_holes_that_nothing_fills_are_shown_after_a_while() -> None:
    stream = PieceStream(lambda tokens: HOLE * len(tokens))
    shown = "".join(stream.feed([token]) for token in range(30))
    assert len(shown) >= 20
    assert len(shown + stream.end()) == 30


def until(text: str, stops: list[str]) -> tuple[str, str | None]:
    """The specification of stops: read character by character until one is whole; of two the longer one."""
    for end in range(1, len(text) + 1):
        if found := [stop for stop in stops if text[:end].endswith(stop)]:
            stop = max(found, key=len)
            return text[: end - len(stop)], stop
    return text, None


@given(
    text=st.text(alphabet="abc", max_size=30),
    stops=st.lists(st.text(alphabet="abc", min_size=1, max_size=4), max_size=3),
    places=st.lists(st.integers(0, 200)),
)
@example(text="abcd", stops=["abcd", "bc"], places=[])
@example(text="aab", stops=["ab"], places=[1, 2])
def test_stops_are_found_wherever_the_text_is_cut(text: str, stops: list[str], places: list[int]) -> None:
    reader = Stops(stops)
    shown = "".join(reader.feed(part) for part in cut(text, places))
    shown += reader.end()
    assert (shown, reader.found) == until(text, stops)


@given(text=st.text(alphabet="ab", max_size=20))
def test_no_more_is_kept_back_than_may_become_a_stop(text: str) -> None:
    reader = Stops(["aab"])
    shown = "".join(reader.feed(character) for character in text)
    if reader.found is None:
        assert len(text) - len(shown) == next(n for n in (2, 1, 0) if text.endswith("aab"[:n]))


def told(tokens: Sequence[int]) -> Delta:
    return Delta(tokens=[*tokens], logprobs=[TokenLogprob(token, -1.0) for token in tokens], count=len(tokens))


def test_a_token_is_told_with_the_text_that_it_begins_in() -> None:
    choice = Choice(ByteTokenizer(), ["xyz"], 0)
    first = choice.take(told("é".encode()[:1]))
    assert (first.text, first.logprobs) == ("", [])
    second = choice.take(told("é".encode()[1:] + b"x"))
    assert second.text == "é"
    assert [one.bytes for one in second.logprobs] == [[0xC3], [0xA9]]
    assert choice.take(told(b"y")).text == ""
    last = choice.take(told(b"a"))
    assert (last.text, [one.token for one in last.logprobs]) == ("xya", ["x", "y", "a"])
    assert [one.offset for one in last.logprobs] == [1, 2, 3]


def test_what_a_stop_cuts_off_is_told_nowhere() -> None:
    choice = Choice(ByteTokenizer(), ["xyz"], 0)
    pieces = [choice.take(told(bytes([byte]))) for byte in b"axyz"]
    assert "".join(piece.text for piece in pieces) == "a"
    assert [one.token for piece in pieces for one in piece.logprobs] == ["a"]
    assert pieces[-1].finish == "stop"
    assert choice.is_stopped
    assert choice.tokens == 4


def test_an_end_shows_what_was_kept_back() -> None:
    choice = Choice(ByteTokenizer(), ["xyz"], None)
    assert choice.take(Delta(tokens=[*b"ax"], count=2)).text == "a"
    last = choice.take(Delta(tokens=[*b"y"], count=1, finish="length"))
    assert (last.text, last.finish) == ("xy", "length")


def test_a_template_of_a_model_is_rendered() -> None:
    template = (
        "{%- for message in messages %}<{{ message.role }}>{{ message.content | trim }}{% endfor %}"
        "{% if tools %}{{ tools | tojson }}{% endif %}{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    messages = [{"role": "user", "content": " hi <b> "}]
    assert render(template, messages=messages, add_generation_prompt=True) == "<user>hi <b><assistant>"
    assert render(template, messages=messages, tools=[{"a": "<é>"}]) == '<user>hi <b>[{"a": "<é>"}]'


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('roles must take turns') }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{% for x in y %}",
        "{{ messages[0].a.b }}",
        "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
    ],
)
def test_a_template_can_only_refuse(template: str) -> None:
    with pytest.raises(TemplateError, match="chat template"):
        render(template, messages=[{"role": "user"}])


class Own:
    """What a tokenizer of transformers has."""

    eos_token_id = 7
    special_tokens_map = {"eos_token": "</s>"}

    def __init__(self, template: Any) -> None:
        self.chat_template = template


def test_the_template_of_a_tokenizer_gets_its_special_tokens() -> None:
    tokenizer = PieceTokenizer(Own("{{ messages[0].content }}{{ eos_token }}{{ more }}"))
    assert tokenizer.chat([{"role": "user", "content": "a"}], {"more": 1}) == "a</s>1"
    assert tokenizer.ends == {7}


def test_the_conversation_is_not_among_what_clients_may_replace() -> None:
    tokenizer = PieceTokenizer(Own("{{ messages }}{{ template }}{{ add_generation_prompt }}"))
    more = {"messages": "other", "template": "x", "add_generation_prompt": False}
    assert tokenizer.chat([], more) == "[]xFalse"


def test_templates_by_name() -> None:
    tokenizer = PieceTokenizer(Own({"default": "plain", "tool_use": "{{ tools }}"}))
    assert tokenizer.chat([], {}) == "plain"
    assert tokenizer.chat([], {"tools": [1]}) == "[1]"


def test_tools_that_a_template_does_not_know_are_refused() -> None:
    with pytest.raises(NotOffered, match="no tools"):
        PieceTokenizer(Own("{{ messages }}")).chat([], {"tools": [1]})


def test_a_model_without_a_template_says_what_to_do() -> None:
    with pytest.raises(NotOffered, match="/v1/completions"):
        PieceTokenizer(Own(None)).chat([], {})
