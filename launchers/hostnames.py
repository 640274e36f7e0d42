"""Many names of machines in short, `nid[0001-0003,0007]`, and back: for people, and as schedulers write them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence


def expand_nodes(expression: str) -> list[str]:
    """`nid[0001-0003,7],login1` -> the names in order, zeros kept. ValueError when it is no such expression."""
    names: list[str] = []
    for part in _split_top(expression.strip()):
        names.extend(_expand_one(part))
    return names


def _split_top(text: str) -> Iterator[str]:
    """Split at the commas outside brackets."""
    depth, start = 0, 0
    for i, char in enumerate(text):
        if char == "[":
            depth += 1
        elif char == "]":
            depth -= 1
        elif char == "," and depth == 0:
            if i > start:
                yield text[start:i]
            start = i + 1
        if depth not in (0, 1):
            raise ValueError(f"not a node list: {text!r}")
    if depth:
        raise ValueError(f"not a node list: {text!r}")
    if text[start:]:
        yield text[start:]


def _expand_one(part: str) -> list[str]:
    head, bracket, rest = part.partition("[")
    if not bracket:
        return [head]
    inside, _, tail = rest.partition("]")
    tails = _expand_one(tail) if tail else [""]
    names: list[str] = []
    for piece in inside.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", piece)
        if match is None:
            raise ValueError(f"not a node list: {part!r}")
        low, high = match.group(1), match.group(2) or match.group(1)
        if int(high) - int(low) > 100_000:
            raise ValueError(f"not a node list: {part!r}")
        names.extend(f"{head}{n:0{len(low)}d}{t}" for n in range(int(low), int(high) + 1) for t in tails)
    return names


def compress_nodes(names: Sequence[str]) -> str:
    """The short form of many names, for people: nid[0001-0003,0007]. Names without a number stay as they are."""
    groups: dict[tuple[str, int], list[int]] = {}
    order: list[tuple[str, int] | str] = []
    for name in names:
        match = re.fullmatch(r"(.*?)(\d+)", name)
        key: tuple[str, int] | str = (match.group(1), len(match.group(2))) if match else name
        if key not in order:
            order.append(key)
        if match and isinstance(key, tuple):
            groups.setdefault(key, []).append(int(match.group(2)))
    words = []
    for key in order:
        if isinstance(key, str):
            words.append(key)
            continue
        prefix, width = key
        runs = _runs(sorted(set(groups[key])))
        spans = [f"{a:0{width}d}" if a == b else f"{a:0{width}d}-{b:0{width}d}" for a, b in runs]
        plain = len(spans) == 1 and "-" not in spans[0]
        words.append(f"{prefix}{spans[0]}" if plain else f"{prefix}[{','.join(spans)}]")
    return ",".join(words)


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for n in numbers:
        if runs and runs[-1][1] == n - 1:
            runs[-1] = (runs[-1][0], n)
        else:
            runs.append((n, n))
    return runs
