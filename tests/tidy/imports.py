"""Imports inside the package: those at the top of files, those inside functions and those for types are kept apart."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: The folders of the repository, as the packages that they are once installed.
HOMES = {"hpc": "hpc", "core": "hpc.core", "launchers": "hpc.launchers", "templates": "hpc.templates"}
TOP, LAZY, TYPING = "top", "in a function", "for types"

#: From one module to others: the kinds of imports by which it needs each.
Graph = dict[str, dict[str, set[str]]]


@cache
def modules() -> dict[str, Path]:
    """All modules of the package, with their files."""
    found = {}
    for home, package in HOMES.items():
        for path in sorted((ROOT / home).rglob("*.py")):
            parts = path.relative_to(ROOT / home).with_suffix("").parts
            found[".".join([package, *parts]).removesuffix(".__init__")] = path
    return found


@cache
def parsed(path: Path) -> ast.Module:
    """A file, parsed once for all tests that look at it. Nobody changes what is in it."""
    return ast.parse(path.read_text())


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """All nodes of a file, in the order of `ast.walk`."""
    return tuple(ast.walk(parsed(path)))


@cache
def prose_tokens(text: str) -> tuple[tokenize.TokenInfo, ...]:
    """The comments of a file, and its strings in three double quotes. To cut all files into tokens takes 5 s of CPU."""
    return tuple(
        token
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and '"""' in token.string[:4])
    )


def statements(tree: ast.AST, kind: str = TOP) -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
    """The import statements of a file, each with its kind."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node, kind
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield from statements(ast.Module(node.body, []), TYPING)
            yield from statements(ast.Module(node.orelse, []), kind)
        elif kind == TOP and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from statements(node, LAZY)
        else:
            yield from statements(node, kind)


def names(node: ast.Import | ast.ImportFrom) -> list[str]:
    """The modules that a statement may mean: of ``from a import b`` both a.b, if there is one, and a."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [f"{node.module}.{alias.name}" for alias in node.names]


def resolve(name: str, known: Collection[str]) -> str:
    """The module that has this name, or the closest one above; empty if the package has none."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name


@cache
def graph() -> Graph:
    """The imports between the package's own modules."""
    known = modules()
    arrows: Graph = {name: {} for name in known}
    for source, path in known.items():
        for node, kind in statements(parsed(path)):
            for name in names(node):
                target = resolve(name, known)
                if target and target != source:
                    arrows[source].setdefault(target, set()).add(kind)
    return arrows


def needed(source: str, arrows: Graph, kinds: Collection[str]) -> set[str]:
    """The module and all that it imports by these kinds, directly or through others."""
    seen, todo = {source}, [source]
    while todo:
        for target, how in arrows[todo.pop()].items():
            if target not in seen and how & set(kinds):
                seen.add(target)
                todo.append(target)
    return seen


def circles(arrows: Graph, kinds: Collection[str]) -> list[list[str]]:
    """The sets of modules that need each other, the largest first. Those that are alone are not in it."""
    needs = {source: needed(source, arrows, kinds) for source in arrows}
    found: set[frozenset[str]] = set()
    for source, targets in needs.items():
        ring = frozenset(target for target in targets if source in needs[target])
        if len(ring) > 1:
            found.add(ring)
    return sorted((sorted(ring) for ring in found), key=lambda ring: (-len(ring), ring))


@cache
def outside(path: Path) -> set[str]:
    """The top-level modules that a file imports when it runs, its own package's among them."""
    found = set()
    for node, kind in statements(parsed(path)):
        if kind != TYPING:
            found |= {name.split(".")[0] for name in names(node)}
    return found
