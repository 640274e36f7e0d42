"""What pages, docstrings and comments name is there: files, modules, and names in the file said to have them."""

from __future__ import annotations

import ast
import importlib
import math
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from imports import modules, nodes, prose_tokens

ROOT = Path(__file__).resolve().parents[2]
#: What has been is told in the past: names of the changelog need not be there any more.
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CODE = sorted(
    path
    for part in ("hpc", "core", "launchers", "templates", "bench", "examples", "tests", "docs")
    for path in (ROOT / part).rglob("*.py")
)
FOLDERS = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith((".", "build"))}
#: Folders that a build or a benchmark makes.
MADE = ("build/", "dist/", "bench/results/")
#: The file of a user's settings, and the prefix of labels.
NO_MODULES = {"hpc.toml", "hpc.io"}

TICKED = re.compile(r"`([^`\n]+)`")
PATH = re.compile(rf"(?<![\w/.~-])(?:{'|'.join(sorted(FOLDERS))})(?:/[\w.-]+)*/?(?<![.,])")
MODULE = re.compile(r"(?<![\w./])hpc(?:\.[a-zA-Z_]\w*)+")
#: `NAME` (`file.py`), `NAME` in `file.py`, (`NAME`, `OTHER`, `file.py`).
PAIRED = re.compile(r"((?:`[\w.]+`,? (?:and )?)+)(?:in |\()?`((?:[\w-]+/)*[\w-]+\.py)`")
NAME = re.compile(r"[A-Za-z_]\w*$")


@cache
def defined(path: Path) -> set[str]:
    """All names that a file has: functions, classes, variables, fields, attributes, parameters and words in quotes."""
    found = set()
    for node in nodes(path):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """The docstrings and comments of a file."""
    text = path.read_text()
    for node in nodes(path):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            doc = ast.get_docstring(node, clean=False)
            if doc:
                yield node.body[0].lineno, doc
    for token in prose_tokens(text):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def is_there(path: str, folder: Path = ROOT) -> bool:
    """Whether a path is one of the repository's; a module may be written without its ending."""
    whole = folder / path.rstrip("/")
    return whole.exists() or whole.with_name(whole.name + ".py").exists() or f"{path}/".startswith(MADE)


def is_known(dotted: str) -> bool:
    """Whether the name is a module of the package, or is found in one."""
    home, _, rest = dotted.removeprefix("hpc.").partition(".")
    parts = [*(["hpc", home] if home not in ("core", "launchers", "templates") else [home]), *rest.split(".")]
    parts = [part for part in parts if part]
    for count in range(len(parts), 0, -1):
        place = ROOT.joinpath(*parts[:count])
        file = place.with_suffix(".py") if place.with_suffix(".py").exists() else place / "__init__.py"
        if file.exists():
            return count == len(parts) or parts[count] in defined(file)
    return False


def test_pages_name_files_that_are_there():
    gone = [
        f"{page.name}: {path}"
        for page in PAGES
        for ticked in TICKED.findall(page.read_text())
        for path in PATH.findall(ticked)
        if "/" in path and not is_there(path)
    ]
    assert not gone, gone


#: Tables of the code in pages that people write.
GENERATED = re.compile(r"<!-- begin: written by .*?<!-- end -->", re.DOTALL)
#: Pages that are made of such tables, and the one of what is not there yet.
OTHER_PAGES = {"api.md", "cli.md", "roadmap.md"}
#: Names of others' programs, and one that stands for any.
FOREIGN = {"GridSearchCV", "HPC_NAME", "MADV_HUGEPAGE", "PIP_INDEX_URL", "shmem_enabled"}


def test_pages_name_what_the_code_has():
    code = [path for path in CODE if path.relative_to(ROOT).parts[:2] != ("tests", "tidy") and "docs" not in path.parts]
    words = {word for path in code for word in re.findall(r"\w+", path.read_text())} | FOREIGN
    unknown = []
    for page in PAGES:
        text = GENERATED.sub("", page.read_text())
        for ticked in TICKED.findall(text) if page.name not in OTHER_PAGES else ():
            name = ticked.removesuffix("()")
            bare = name.removeprefix("HPC_").removeprefix("RAY_")
            simple, dotted = re.fullmatch(r"[A-Za-z]\w*", name), re.fullmatch(r"hpc(\.\w+)+", name)
            known = words & {name, bare, bare.lower()} if simple else name in NO_MODULES or is_known(name)
            if (simple or dotted) and not known:
                unknown.append(f"{page.name}: {name}")
    assert not unknown, unknown


def test_files_without_a_folder_are_beside_the_one_before_them():
    gone, seen = [], 0
    for page in PAGES:
        for cell in re.split(r" \| |\n", page.read_text()):
            folder = ""
            for ticked in TICKED.findall(cell):
                if match := re.fullmatch(r"((?:[\w-]+/)*)[\w-]+\.py", ticked):
                    folder = match.group(1) or folder
                    seen += not match.group(1)
                    if folder and not match.group(1) and not (ROOT / folder / ticked).exists():
                        gone.append(f"{page.name}: {folder}{ticked}")
    assert not gone, gone
    assert seen > 20


def pairs(text: str) -> Iterator[tuple[str, str]]:
    """Names and the file that the text says they are in. A file without a folder is beside the one before it."""
    folder = ""
    for part in re.split(r"(?<=\|)|\n\n", text):
        for match in re.finditer(r"`((?:[\w-]+/)+)[\w-]+\.py`", part):
            folder = match.group(1)
        for names, file in PAIRED.findall(part):
            where = file if "/" in file else folder + file
            yield from ((name, where) for name in TICKED.findall(names) if not name.endswith(".py"))


def test_names_are_in_the_file_that_is_named_with_them():
    wrong, seen = [], 0
    for page in PAGES:
        for name, file in pairs(page.read_text()):
            seen += 1
            path, last = ROOT / file, name.rpartition(".")[2]
            if not path.exists() or (NAME.match(last) and last not in defined(path)):
                wrong.append(f"{page.name}: {name} in {file}")
    assert not wrong, wrong
    assert seen > 30


@pytest.mark.parametrize("part", sorted({path.relative_to(ROOT).parts[0] for path in CODE}))
def test_docstrings_and_comments_name_files_and_modules_that_are_there(part):
    wrong = []
    for path in CODE:
        if path.relative_to(ROOT).parts[0] == part:
            for line, text in texts(path):
                paths = [one for one in PATH.findall(text) if "/" in one]
                bad = [one for one in paths if not is_there(one) and not is_there(one, path.parent)]
                bad += [one for one in MODULE.findall(text) if one not in NO_MODULES and not is_known(one)]
                wrong += [f"{path.relative_to(ROOT)}:{line}: {one}" for one in bad]
    assert not wrong, "\n".join(wrong)


#: What a number of a table may be multiplied by: its unit says which, and the constant counts in one of these.
UNITS = (1, 1 << 10, 1 << 20, 1 << 30, 1e-3, 1e3, 1e-6, 1e6, 60, 3600)
QUANTITY = re.compile(r"\d+(?:,\d{3})+(?:\.\d+)?|\d+\^\d+|\d+(?:\.\d+)?")


def quantities(text: str) -> list[float]:
    """The numbers that a text has, in digits."""
    found = []
    for word in QUANTITY.findall(text):
        base, _, power = word.replace(",", "").partition("^")
        found.append(float(base) ** float(power or 1))
    return found


def test_limits_are_as_large_as_their_page_says():
    wrong, seen = [], 0
    for row in (ROOT / "docs" / "limits.md").read_text().splitlines():
        cells = row.split(" | ")
        if not row.startswith("| ") or len(cells) < 3:
            continue
        said = [number * unit for number in quantities(TICKED.sub("", " ".join(cells[1:]))) for unit in UNITS]
        for name, file in pairs(cells[0]) if said else ():
            module = next(dotted for dotted, path in modules().items() if path == ROOT / file)
            value = getattr(importlib.import_module(module), name, None)
            if name.isupper() and isinstance(value, (int, float)):
                seen += 1
                if not any(math.isclose(value, one) for one in said):
                    wrong.append(f"{name} in {file} is {value}, and the page says: {cells[1]}")
    assert not wrong, "\n".join(wrong)
    assert seen > 50
