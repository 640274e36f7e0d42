"""Every command says how it is called and what its options are; the page of commands has the same tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc.cli import job, main
from hpc.cli.helping import flags, usage_and_table
from hpc.cli.session import no_session
from hpc.host.find import SeveralSessions

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"


@pytest.mark.parametrize("command", [name for name in main.COMMANDS if name != "launch"])
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_of_a_command_is_its_usage_and_its_options(
    command: str, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main([command, flag]) == 0
    said = capsys.readouterr()
    usage, table = usage_and_table(command)
    assert said.out.startswith(f"usage: hpc {command}") and usage in said.out and not said.err
    for option in table:
        assert f"  {flags(option)}" in said.out and option.help in said.out


@pytest.mark.parametrize("command", list(job.COMMANDS))
def test_each_command_for_jobs_in_a_session_has_its_own(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["job", command, "--help"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: hpc job {command}")
    assert all(f"  {flags(option)}" in said for option in job.COMMANDS[command][1])


def test_help_after_the_words_of_another_command_is_that_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["cancel", "3", "--help"]) == 0 and capsys.readouterr().out.startswith("usage: hpc cancel")
    assert main.main(["job", "submit", "--address=none", "--", "python", "x.py", "--help"]) == 2
    assert "usage" not in capsys.readouterr().out


def test_the_page_has_the_options_of_each_command() -> None:
    page = PAGE.read_text()
    for command in main.COMMANDS:
        for option in usage_and_table(command)[1]:
            assert f"| `{flags(option)}`".replace("ID|NAME", "ID\\|NAME") in page, (command, option.name)
    assert "### hpc job submit" in page and "| `--runtime-env-json JSON`" in page


def test_an_unknown_option_of_a_command_is_not_taken_for_one_of_a_scheduler(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["ps", "--bogus"]) == 2
    assert "--submit-arg" not in capsys.readouterr().err


def test_with_several_sessions_the_fix_names_one_by_the_option_for_that() -> None:
    error = SeveralSessions("several: a, b", ["a", "b"])
    assert no_session(error).fix == "--address=a" and no_session(error, flag="--session").fix == "--session=a"
    assert no_session(ConnectionError("none"), fix="hpc start --head").fix == "hpc start --head"
