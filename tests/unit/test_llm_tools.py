"""Calls of tools are read out of a model's text, however it is cut into parts, and what is none stays text."""

from __future__ import annotations

import itertools
import json
import random
import time

import pytest

from hpc.serve.llm.config import LLMConfig
from hpc.serve.llm.models import model_of
from hpc.serve.llm.text import PieceTokenizer
from hpc.serve.llm.tools import READERS, Read

#: A call as (name, arguments).
Calls = list[tuple[str, str]]
WEATHER = '{"city": "Bonn, \\"am Rhein\\" {", "days": [1, {"a": "]"}]}'
TIME = "{}"


def hermes(name: str, arguments: str) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


def llama(name: str, arguments: str) -> str:
    return f'{{"name": "{name}", "parameters": {arguments}}}'


CASES: list[tuple[str, str, str, Calls]] = [
    ("hermes", "No call < here\n", "No call < here\n", []),
    ("hermes", hermes("weather", WEATHER), "", [("weather", WEATHER)]),
    ("hermes", f"I look.\n\n{hermes('a', WEATHER)}\n{hermes('b', TIME)}\n", "I look.", [("a", WEATHER), ("b", TIME)]),
    ("hermes", f"{hermes('a', TIME)}\nDone.", "\nDone.", [("a", TIME)]),
    ("hermes", '<tool_call>{"arguments": {"x": 1 } , "name": "late"}</tool_call>', "", [("late", '{"x": 1 }')]),
    ("hermes", '<tool_call>{"name": 3}</tool_call> x', '<tool_call>{"name": 3}</tool_call> x', []),
    ("hermes", "<tool_call>none</tool_call>", "<tool_call>none</tool_call>", []),
    ("hermes", '<tool_call>{"name": "cut", "arguments": {"x": [1', "", [("cut", '{"x": [1')]),
    ("hermes", '<tool_call>{"name": "cu', '<tool_call>{"name": "cu', []),
    ("hermes", "a <tool_c", "a <tool_c", []),
    ("llama3_json", llama("weather", WEATHER), "", [("weather", WEATHER)]),
    ("llama3_json", f"<|python_tag|>{llama('a', WEATHER)}; {llama('b', TIME)}", "", [("a", WEATHER), ("b", TIME)]),
    ("llama3_json", "Plain {text}", "Plain {text}", []),
    ("llama3_json", ' {"name": "Ada", "age": 36} is', ' {"name": "Ada", "age": 36} is', []),
    ("mistral", f'[TOOL_CALLS] [{{"name": "a", "arguments": {WEATHER}}}]', "", [("a", WEATHER)]),
    (
        "mistral",
        f'So. [TOOL_CALLS][{{"name": "a", "arguments": {WEATHER}}}, {{"name": "b", "arguments": {TIME}}}]',
        "So.",
        [("a", WEATHER), ("b", TIME)],
    ),
    ("mistral", f"[TOOL_CALLS]a[ARGS]{WEATHER}[TOOL_CALLS]b{TIME}", "", [("a", WEATHER), ("b", TIME)]),
    ("mistral", f"[TOOL_CALLS]a[CALL_ID]x1[ARGS]{WEATHER}", "", [("a", WEATHER)]),
    ("mistral", "[TOOL_CALLS] is a word", "[TOOL_CALLS] is a word", []),
    ("mistral", "[TOOL", "[TOOL", []),
    ("mistral", "[TOOL_CALLS][1, 2] x", "[TOOL_CALLS][1, 2] x", []),
    ("mistral", '[TOOL_CALLS][{"a": 1}, 2] x', '[TOOL_CALLS][{"a": 1}, 2] x', []),
    ("mistral", '[TOOL_CALLS][{"name": "cu', '[TOOL_CALLS][{"name": "cu', []),
    ("mistral", '[TOOL_CALLS][{"name": "cut", "arguments": {"x": [1', "", [("cut", '{"x": [1')]),
]


def read(name: str, parts: list[str]) -> tuple[str, Calls]:
    """What a reader makes of parts of an answer. Ids are there once for each call, in its first part."""
    reader, found = READERS[name](), Read()
    for part in parts:
        found.add(reader.feed(part))
    found.add(reader.end())
    calls: Calls = []
    ids = []
    for one in found.calls:
        if one.id is not None:
            ids.append(one.id)
            calls.append((str(one.name), ""))
        assert one.index == len(calls) - 1
        calls[-1] = (calls[-1][0], calls[-1][1] + one.arguments)
    assert len(set(ids)) == len(calls) == reader.count
    return found.text, calls


@pytest.mark.parametrize(("name", "answer", "text", "calls"), CASES)
def test_an_answer_is_read_alike_however_it_is_cut(name: str, answer: str, text: str, calls: Calls) -> None:
    if name == "hermes" and calls and "cut" not in answer:
        assert all(json.loads(arguments) is not None for _, arguments in calls)
    cuts = random.Random(answer)
    assert read(name, [answer]) == (text, calls)
    assert read(name, list(answer)) == (text, calls)
    for _ in range(50):
        places = sorted(cuts.sample(range(len(answer) + 1), 3))
        bounds = [0, *places, len(answer)]
        parts = [answer[begin:end] for begin, end in itertools.pairwise(bounds)]
        assert read(name, parts) == (text, calls)


def test_arguments_are_told_before_they_are_whole() -> None:
    reader = READERS["hermes"]()
    first = reader.feed('<tool_call>{"name": "f", "arguments": {"x": "lon')
    assert [(one.name, one.arguments) for one in first.calls] == [("f", ""), (None, '{"x": "lon')]
    assert [one.arguments for one in reader.feed('g"}').calls] == ['g"}']


def test_long_arguments_cost_as_much_as_they_are_long() -> None:
    reader = READERS["hermes"]()
    reader.feed('<tool_call>{"name": "f", "arguments": {"x": "')
    begin = time.process_time()
    told = sum(len(part.arguments) for _ in range(100_000) for part in reader.feed("word").calls)
    assert told == 400_000
    assert time.process_time() - begin < 5, "each letter copies the whole text"


def test_ids_of_mistral_are_those_that_its_templates_take() -> None:
    reader = READERS["mistral"]()
    (part, *_) = reader.feed("[TOOL_CALLS]a{}").calls
    assert part.id is not None and len(part.id) == 9 and part.id.isalnum()


def test_a_reader_is_named_as_in_vllm() -> None:
    def made(**arguments: object) -> None:
        model_of(LLMConfig(model_loading_config={"model_id": "a"}, llm_engine="toy", engine_kwargs=arguments))

    made(tool_call_parser="hermes", enable_auto_tool_choice=True)
    with pytest.raises(ValueError, match="tool_call_parser='abacus' is none of hermes"):
        made(tool_call_parser="abacus")
    with pytest.raises(ValueError, match="needs a tool_call_parser"):
        made(enable_auto_tool_choice=True)


def test_special_tokens_that_mark_a_call_are_seen() -> None:
    class Own:
        """As transformers' own: a special token without a role is in no list, and one that is unknown has a number."""

        all_special_tokens = ("</s>",)
        eos_token_id = 1
        texts = ("[TOOL_CALLS]", "</s>", "a", "{}")

        def convert_tokens_to_ids(self, text: str) -> int:
            return self.texts.index(text) if text in self.texts else 1

        def convert_ids_to_tokens(self, tokens: list[int]) -> list[str]:
            return [self.texts[token] for token in tokens]

        def decode(self, tokens: list[int], skip_special_tokens: bool) -> str:
            assert skip_special_tokens
            return "".join(self.texts[token] for token in tokens if token > 1)

    tokenizer = PieceTokenizer(Own())
    assert tokenizer.stream().feed([0, 2, 3, 1]) == "a{}"
    assert tokenizer.stream(READERS["mistral"]().markers).feed([0, 2, 3, 1]) == "[TOOL_CALLS]a{}"
