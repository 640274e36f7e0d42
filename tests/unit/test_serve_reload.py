"""`hpc serve run --reload`: which files are followed, and what a change does."""

from __future__ import annotations

import importlib
import sys
import threading
from pathlib import Path

import pytest

from hpc.cli import serve as command
from hpc.cli.serve_reload import follow, forget, stamps
from hpc.cli.words import parse_mixed


def test_modules_of_a_folder_are_followed_and_others_are_not(tmp_path: Path) -> None:
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "inner").mkdir()
    for name in ("a.py", "inner/b.py", "notes.txt", ".hidden", "__pycache__/a.py"):
        (tmp_path / name).write_text("x = 1")
    assert set(stamps([str(tmp_path)])) == {str(tmp_path / "a.py"), str(tmp_path / "inner/b.py")}
    before = stamps([str(tmp_path)])
    (tmp_path / "a.py").write_text("x = 12")
    assert stamps([str(tmp_path)]) != before


def test_a_module_of_the_folder_is_imported_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    path = tmp_path / "a_followed_module.py"
    path.write_text("x = 1")
    assert importlib.import_module(path.stem).x == 1
    path.write_text("x = 2")
    assert forget(str(tmp_path)) == [path.stem] and "hpc.cli" in sys.modules
    assert importlib.import_module(path.stem).x == 2
    del sys.modules[path.stem]


def test_what_is_installed_within_the_folder_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = tmp_path / ".venv" / "lib" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "an_installed_module.py").write_text("x = 1")
    monkeypatch.syspath_prepend(str(packages))
    there = importlib.import_module("an_installed_module")
    assert forget(str(tmp_path)) == [] and sys.modules.pop("an_installed_module") is there


def test_a_module_is_imported_anew_also_from_a_package_without_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    folder = tmp_path / "a_followed_package"
    folder.mkdir()
    (folder / "app.py").write_text("from a_followed_package import part\nx = part.x")
    (folder / "part.py").write_text("x = 1")
    assert importlib.import_module("a_followed_package.app").x == 1
    (folder / "part.py").write_text("x = 2")
    assert "a_followed_package" in forget(str(tmp_path))
    assert importlib.import_module("a_followed_package.app").x == 2
    forget(str(tmp_path))


def test_each_change_is_an_attempt_also_after_one_that_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "app.py"
    path.write_text("0")
    tries: list[str] = []
    texts = iter(("first", "second"))

    class Over(threading.Event):
        """Files change while it is waited for."""

        def wait(self, timeout: float | None = None) -> bool:
            text = next(texts, None)
            if text is not None:
                path.write_text(text)
            return text is None

    def again() -> None:
        tries.append(path.read_text())
        if len(tries) == 1:
            raise SyntaxError("the middle of an edit")

    follow([str(tmp_path)], again, Over())
    assert tries == ["first", "second"]
    said = capsys.readouterr().out
    assert f"{path}: deployed again" in said and "it was not deployed: SyntaxError" in said


def test_the_command_has_the_option() -> None:
    assert parse_mixed(command.COMMANDS["run"][1], ["--reload", "a:b"]) == ({"reload": True}, ["a:b"])
