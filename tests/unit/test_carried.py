"""A folder that is carried between two machines without a file system that both see: both ends, on this one."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpc.launchers.carried import FILES, OUTPUT, scan, within
from hpc.launchers.carrier import OTHERS_GIVE, OTHERS_TAKE, Asker, Carrier, Silent
from hpc.launchers.joinfile import JoinFile
from hpc.launchers.porter import KEPT, PorterProcess, Shelf


class Direct(Asker):
    """Asks a shelf without a network between."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.asked: list[str] = []

    def ask(self, question: dict[str, object], data: bytes = b"") -> tuple[dict[str, object], bytes]:
        self.asked.append(str(question["op"]))
        return self.shelf.answer(dict(question), data)


@pytest.fixture
def ends(tmp_path: Path) -> tuple[Path, Path, Direct, Carrier]:
    """The folder there, the folder here, and what carries between them."""
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    asker = Direct(Shelf(there))
    return there, here, asker, Carrier(asker, here)


def settle(carrier: Carrier) -> None:
    for _ in range(20):
        if not carrier.turn():
            return
    raise AssertionError("the two never became alike")


Ends = tuple[Path, Path, Direct, Carrier]


def test_files_of_both_ends_come_to_the_other_with_their_content_and_their_users_mode(ends: Ends) -> None:
    there, here, _, carrier = ends
    (there / FILES).mkdir()
    (there / FILES / "run.sh").write_text("#!/bin/sh\n")
    (there / FILES / "run.sh").chmod(0o755)
    (here / "big").write_bytes(os.urandom(3 * (1 << 20)))
    (here / "exact").write_bytes(bytes(1 << 20))
    settle(carrier)
    assert (here / FILES / "run.sh").read_text() == "#!/bin/sh\n"
    assert stat.S_IMODE((here / FILES / "run.sh").stat().st_mode) == 0o700
    for name in ("big", "exact"):
        assert (there / name).read_bytes() == (here / name).read_bytes()


def test_nothing_is_carried_twice(ends: Ends) -> None:
    there, here, asker, carrier = ends
    (there / "a").write_text("a")
    (here / "b").write_text("b")
    settle(carrier)
    asker.asked.clear()
    assert not carrier.turn()
    assert asker.asked == ["list"]


def test_a_file_that_is_replaced_at_either_end_is_replaced_at_the_other(ends: Ends) -> None:
    there, here, _, carrier = ends
    (there / "job.json").write_text("{}")
    (here / "status.json").write_text("1")
    settle(carrier)
    for path, text in ((there / "job.json", "{1}"), (here / "status.json", "2")):
        path.with_name(".new").write_text(text)
        os.utime(path.with_name(".new"), ns=(0, time.time_ns() + 1000))
        path.with_name(".new").replace(path)
    settle(carrier)
    assert (here / "job.json").read_text() == "{1}" and (there / "status.json").read_text() == "2"


def test_output_grows_and_only_its_end_is_sent(ends: Ends) -> None:
    there, here, asker, carrier = ends
    with (here / OUTPUT).open("wb") as out:
        for line in (b"one\n", b"two\n", b"three\n"):
            out.write(line)
            out.flush()
            settle(carrier)
    assert (there / OUTPUT).read_bytes() == b"one\ntwo\nthree\n"
    assert asker.asked.count("append") == 3 and "put" not in asker.asked


def test_output_goes_where_it_was_asked_to(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    (here / OUTPUT).write_text("said")
    settle(Carrier(Direct(Shelf(there, tmp_path / "out.txt")), here))
    assert (tmp_path / "out.txt").read_text() == "said" and not (there / OUTPUT).exists()


def test_a_file_that_is_removed_is_removed_at_the_other_end_and_its_folder_with_it(ends: Ends) -> None:
    there, here, _, carrier = ends
    (here / "app").mkdir()
    (here / "app" / "join").write_text("key")
    settle(carrier)
    other = there.parent / "third"
    other.mkdir()
    second = Carrier(Direct(Shelf(there)), other, OTHERS_GIVE, OTHERS_TAKE, drops=False)
    settle(second)
    assert (other / "app" / "join").read_text() == "key"
    (here / "app" / "join").unlink()
    (here / "app").rmdir()
    settle(carrier)
    assert not (there / "app").exists()
    settle(second)
    assert not (other / "app").exists()


def test_a_process_that_is_not_the_first_takes_and_gives_what_it_needs_alone(ends: Ends) -> None:
    there, here, asker, _ = ends
    (there / "status.json").write_text("there")
    (there / "app").mkdir()
    (there / "app" / "hosts-0").write_text("n0")
    (here / "app").mkdir()
    (here / "app" / "hosts-1").write_text("n1")
    (here / "events.jsonl").write_text("mine")
    settle(Carrier(asker, here, OTHERS_GIVE, OTHERS_TAKE, drops=False))
    assert sorted(scan(there)) == ["app/hosts-0", "app/hosts-1", "status.json"]
    assert sorted(scan(here)) == ["app/hosts-1", "events.jsonl"]


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "", "a//b", "."])
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        within(tmp_path, name)


# ---------------------------------------------------------------- over the network


@pytest.fixture
def porter(tmp_path: Path) -> Iterator[PorterProcess]:
    (tmp_path / "there").mkdir()
    found = PorterProcess(tmp_path / "there", interface="lo")
    yield found
    found.close()


def test_a_porter_that_is_started_again_is_found_and_nothing_is_lost(tmp_path: Path, porter: PorterProcess) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    here.mkdir()
    carrier = Carrier(Asker(porter.join, 1.0), here)
    (here / "a").write_text("a")
    settle(carrier)
    assert (there / "a").read_text() == "a"
    assert stat.S_IMODE((there / KEPT).stat().st_mode) == 0o600
    porter._process.kill()
    (here / "b").write_text("b")
    with pytest.raises(Silent):
        carrier.turn()
    again = PorterProcess(there, interface="lo")
    try:
        assert again.join == porter.join
        settle(carrier)
        assert (there / "b").read_text() == "b"
        carrier.asker.ask({"op": "end"})  # else it would wait for the job's last words
    finally:
        again.close()


def test_a_carrier_without_the_key_gets_no_answer(tmp_path: Path, porter: PorterProcess) -> None:
    import zmq

    public, secret = (half.decode() for half in zmq.curve_keypair())
    join = JoinFile("", porter.join.endpoint, porter.join.server_key, public, secret)
    with pytest.raises(Silent):
        Asker(join, 0.5).ask({"op": "list"})
