"""Every command of `hpc` is a file of its name with one `run(words)`, and what they print stands in columns."""

from __future__ import annotations

import importlib
import inspect

import pytest

from hpc.cli import look, main, manual
from hpc.cli.table import show_table
from hpc.cli.words import HELP, JSON, parse_mixed


@pytest.mark.parametrize("name", main.COMMANDS)
def test_a_command_is_a_file_with_its_name(name):
    run = importlib.import_module(f"hpc.cli.{name}").run
    assert list(inspect.signature(run).parameters) == ["words"]


def test_the_help_has_every_command_and_no_other():
    usages = [usage.removeprefix("hpc ") for usage, _text in manual.COMMANDS]
    first = {usage.split()[0] for usage in usages}
    told = first | {part.split()[0] for usage in usages for part in usage.split(" | ")}
    assert first <= set(main.COMMANDS) <= told


def test_only_the_dispatch_is_in_main():
    functions = [
        name for name, value in vars(main).items() if inspect.isfunction(value) and value.__module__ == main.__name__
    ]
    assert functions == ["main", "_dispatch", "_help"]


def test_a_command_that_is_not_there_is_told_with_the_nearest(capsys):
    assert main.main(["lisst"]) == 2
    assert "hpc list" in capsys.readouterr().err


def test_options_and_words_may_stand_in_any_order():
    words = ["a", "--json", "b", "-h"]
    assert parse_mixed((JSON, HELP), words) == ({"json": True, "help": True}, ["a", "b"])
    assert parse_mixed((JSON, HELP), []) == ({}, [])


def test_columns_are_as_wide_as_their_longest_cell(capsys):
    show_table([("ID", "NAME", "X"), (1, "a long one", ""), (22, "b", "end")])
    assert capsys.readouterr().out == "ID  NAME        X\n1   a long one\n22  b           end\n"
    show_table([("0", "host", "dead: gone")], indent="  ", gap=" ", least=(5, 6))
    assert capsys.readouterr().out == "  0     host   dead: gone\n"
    show_table([])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("name=a", ("name", "=", "a")),
        ("name!=a", ("name", "!=", "a")),
        ("name=a!=b", ("name", "=", "a!=b")),
        ("name=a=b", ("name", "=", "a=b")),
        ("name!=a=b", ("name", "!=", "a=b")),
        ("name=", ("name", "=", "")),
    ],
)
def test_a_name_with_signs_can_be_filtered_by(monkeypatch, text, wanted):
    asked = []
    monkeypatch.setattr("hpc.util.state.list_tasks", lambda filters, limit: asked.append(filters) or [])
    assert look.rows_of("tasks", {"filter": text}, 5) == [] and asked == [[wanted]]
