"""An environment that is packed once works from another folder, and each node gets the same bytes or says why not."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from hpc.core.node import rundir
from hpc.launchers.scheduler import Allocation, Command
from hpc.launchers.staging import deliver, node, pack
from hpc.launchers.staging.node import Trouble
from hpc.launchers.staging.pack import StageError

NODE = [sys.executable, "-I", "-S", node.__file__]


@pytest.fixture
def venv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A virtual environment with one module, one script, and an editable install of each kind."""
    monkeypatch.setattr(pack, "_base_of", lambda prefix: "")  # the base Python is large
    made = tmp_path / "old place" / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", made], check=True, timeout=60)
    (site,) = (made / "lib").glob("python3.*/site-packages")
    (site / "mine.py").write_text("HERE = __file__\n")
    for name in ("tree", "src"):
        (tmp_path / name / f"{name}_module").mkdir(parents=True)
        (tmp_path / name / f"{name}_module" / "__init__.py").touch()
    (site / "tree.pth").write_text(f"{tmp_path}/tree\nimport sys\n")
    (site / "__editable___src_finder.py").write_text(
        f"MAPPING: dict[str, str] = {{'src_module': '{tmp_path}/src/src_module'}}\n"
    )
    script = made / "bin" / "tool"
    script.write_text(f"#!{made}/bin/python\nimport mine\nprint(mine.HERE)\n")
    script.chmod(0o755)
    return made


def packed(tmp_path: Path, *wanted: str | Path) -> pack.Archived:
    return pack.pack([str(each) for each in wanted], tmp_path / "jobs")


def placed(archive: pack.Archived, folder: Path) -> Path:
    """As on a node."""
    node.check(str(folder), 1)
    shutil.copy(archive.path, folder / node.ARCHIVE)
    node.unpack(str(folder))
    return folder


# ---------------------------------------------------------------- packing


def test_an_environment_that_has_not_changed_is_not_packed_again(tmp_path: Path, venv: Path) -> None:
    first = packed(tmp_path, venv)
    written = first.path.stat().st_ino
    (site,) = (venv / "lib").glob("python3.*/site-packages")
    (site / "__pycache__").mkdir(exist_ok=True)
    (site / "__pycache__" / "mine.cpython-311.pyc").write_bytes(b"by running")
    again = packed(tmp_path, venv)
    assert (again.path, again.path.stat().st_ino) == (first.path, written)
    (site / "mine.py").write_text("HERE = 1\n")
    assert packed(tmp_path, venv).path != first.path


def test_the_same_environment_gives_the_same_bytes(tmp_path: Path, venv: Path) -> None:
    first = packed(tmp_path, venv)
    first.path.unlink()
    again = packed(tmp_path, venv)
    assert (again.digest, again.size) == (first.digest, first.size)
    assert first.path.stat().st_mode & 0o077 == 0 and first.path.parent.stat().st_mode & 0o077 == 0


def test_two_commands_at_once_pack_it_once(tmp_path: Path, venv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[Path] = []
    write = pack._write

    def slow(target: Path, *more: object) -> None:
        writes.append(target)
        time.sleep(0.3)
        write(target, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(pack, "_write", slow)
    threads = [threading.Thread(target=packed, args=(tmp_path, venv)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(writes) == 1


def test_what_fails_leaves_nothing_half(tmp_path: Path, venv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pack, "_add", full)
    with pytest.raises(StageError, match="No space left on device") as raised:
        packed(tmp_path, venv)
    assert "--job-dir" in raised.value.fix
    assert not [*(tmp_path / "jobs" / "stage").glob("*.tar"), *(tmp_path / "jobs" / "stage").glob("*.part")]


def test_what_cannot_be_read_is_named(tmp_path: Path, venv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: "mine.py" not in str(path))  # root may read all
    with pytest.raises(StageError, match=r"mine\.py: Permission denied"):
        packed(tmp_path, venv)


def test_old_archives_go_by_the_rule(tmp_path: Path) -> None:
    days = {"new": 0, "a": 1, "b": 2, "c": 8, "d": 9, "week": 6, "month": 31}
    now = 1e9
    for name, age in days.items():
        for suffix in (".tar", ".json", ".lock"):
            (tmp_path / f"{name}{suffix}").touch()
        os.utime(tmp_path / f"{name}.tar", (now, now - age * 86400))
    gone = pack.forget_old(tmp_path, {tmp_path / "month.tar"}, now)
    assert {path.stem for path in gone} == {"c", "d"}  # the four last used stay a month, the others a week
    assert {path.stem for path in tmp_path.iterdir()} == {"new", "a", "b", "week", "month"}
    assert {path.stem for path in pack.forget_old(tmp_path, set(), now)} == {"month"}


def test_an_archive_that_is_gone_says_what_to_do(tmp_path: Path, venv: Path) -> None:
    found = packed(tmp_path, venv)
    with open(found.path, "ab") as file:
        file.write(b"x")
    with pytest.raises(StageError, match="damaged"):
        pack.read(found.path)
    found.path.unlink()
    with pytest.raises(StageError, match="gone") as raised:
        pack.read(found.path)
    assert raised.value.fix == "submit the job again"


@pytest.mark.parametrize("left", ["[]", '{"size": 1', "", None, '{"size": 7, "digest": "0"}'])
def test_half_an_archive_is_packed_anew(tmp_path: Path, venv: Path, left: str | None) -> None:
    """A disk was full, a command was killed, or a file system has removed one of two files for its age."""
    first = packed(tmp_path, venv)
    about = first.path.with_suffix(".json")
    if left is None:
        about.unlink()
    else:
        about.write_text(left)
    with pytest.raises(StageError):
        pack.read(first.path)
    again = packed(tmp_path, venv)
    assert (again.digest, json.loads(about.read_text())["digest"]) == (first.digest, first.digest)


def test_the_words_on_an_archive_are_as_young_as_the_archive(tmp_path: Path, venv: Path) -> None:
    found = packed(tmp_path, venv)
    for path in (found.path, found.path.with_suffix(".json")):
        os.utime(path, (1, 1))
    packed(tmp_path, venv)
    assert min(path.stat().st_mtime for path in found.path.parent.iterdir()) > 1


def test_a_file_that_becomes_shorter_while_it_is_packed_is_named(
    tmp_path: Path, venv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk, (mine,) = pack.entries, (venv / "lib").glob("python3.*/site-packages/mine.py")

    def meanwhile(environment: pack.Environment) -> list[pack.Member]:
        found = walk(environment)
        if how == "it became shorter":
            mine.write_text("")
        else:
            mine.unlink()
        return found

    monkeypatch.setattr(pack, "entries", meanwhile)
    for how in ("it became shorter", "No such file or directory"):
        with pytest.raises(StageError, match=r"changes while it is packed: .*/mine\.py") as raised:
            packed(tmp_path, venv)
        assert raised.value.why == how
        mine.write_text("HERE = __file__\n")


def test_archives_are_not_kept_in_what_is_packed(tmp_path: Path, venv: Path) -> None:
    (tmp_path / "jobs").mkdir()
    with pytest.raises(StageError, match="the folder where archives are kept is in it") as raised:
        packed(tmp_path, venv, tmp_path / "jobs")
    assert "--job-dir" in raised.value.fix


@pytest.mark.parametrize(("wanted", "why"), [("{}/nowhere", "no such folder"), ("{0}/a=2", "no such folder")])
def test_what_is_not_there(tmp_path: Path, wanted: str, why: str) -> None:
    with pytest.raises(StageError, match=why):
        packed(tmp_path, wanted.format(tmp_path))


def test_two_environments_are_one_too_many(tmp_path: Path, venv: Path) -> None:
    other = tmp_path / "other"
    (other / "conda-meta").mkdir(parents=True)
    with pytest.raises(StageError, match="two environments"):
        packed(tmp_path, venv, other)


def test_a_conda_environment_needs_conda_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = tmp_path / "conda"
    (prefix / "conda-meta").mkdir(parents=True)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(StageError, match="no conda-pack") as raised:
        packed(tmp_path, prefix)
    assert raised.value.fix == "pip install conda-pack"


def test_conda_packs_archive_is_unpacked_by_conda_unpack(tmp_path: Path) -> None:
    """A stand-in for conda-pack writes what the real one does: a tar with env/bin/conda-unpack in it."""
    prefix = tmp_path / "conda"
    (prefix / "conda-meta").mkdir(parents=True)
    (prefix / "bin").mkdir()
    (prefix / "bin" / "python").symlink_to(sys.executable)
    pack_tool = prefix / "bin" / "conda-pack"
    pack_tool.write_text(f"""#!{sys.executable}
import sys, tarfile, io
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
assert words["--prefix"] == {str(prefix)!r} and words["--format"] == "tar", sys.argv
with tarfile.open(sys.argv[sys.argv.index("--output") + 1], "w") as tar:
    link = tarfile.TarInfo("env/bin/python"); link.type = tarfile.SYMTYPE; link.linkname = {sys.executable!r}
    tar.addfile(link)
    text = b"import os; open(os.path.dirname(__file__) + '/../moved', 'w').write('by conda-unpack')"
    info = tarfile.TarInfo("env/bin/conda-unpack"); info.size = len(text); info.mode = 0o755
    tar.addfile(info, io.BytesIO(text))
""")
    pack_tool.chmod(0o755)
    folder = placed(packed(tmp_path, prefix), tmp_path / "new")
    assert (folder / "env" / "moved").read_text() == "by conda-unpack"


# ---------------------------------------------------------------- in another place


def test_a_venv_works_from_another_folder_when_the_old_one_is_gone(tmp_path: Path, venv: Path) -> None:
    folder = placed(packed(tmp_path, venv), tmp_path / "new")
    shutil.rmtree(venv)
    python = folder / "env" / "bin" / "python"
    said = subprocess.run(
        [python, "-c", "import sys, mine; print(sys.prefix, mine.HERE)"], capture_output=True, text=True, timeout=30
    )
    assert said.stdout.split()[0] == str(folder / "env") and str(folder) in said.stdout.split()[1], said.stderr
    tool = subprocess.run([folder / "env" / "bin" / "tool"], capture_output=True, text=True, timeout=30)
    assert str(folder) in tool.stdout, tool.stderr
    activated = subprocess.run(
        ["bash", "-c", f". {folder}/env/bin/activate; echo $VIRTUAL_ENV; command -v python"],
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert activated.stdout.split() == [str(folder / "env"), str(python)]
    assert folder.stat().st_mode & 0o777 == 0o700


def test_source_trees_of_editable_installs_stay_unless_they_are_named(tmp_path: Path, venv: Path) -> None:
    left = packed(tmp_path, venv)
    assert sorted(left.facts["left"]) == [f"{tmp_path}/src/src_module", f"{tmp_path}/tree"]
    taken = packed(tmp_path, venv, tmp_path / "tree", tmp_path / "src")
    assert taken.facts["left"] == [] and taken.path != left.path
    folder = placed(taken, tmp_path / "new")
    (site,) = (folder / "env" / "lib").glob("python3.*/site-packages")
    assert (site / "tree.pth").read_text() == f"{folder}/more/0\nimport sys\n"
    assert f"'{folder}/more/1/src_module'" in (site / "__editable___src_finder.py").read_text()
    assert (folder / "more" / "0" / "tree_module" / "__init__.py").exists()


def test_variables_lead_to_the_new_place(tmp_path: Path, venv: Path) -> None:
    archive = packed(tmp_path, venv)
    carrier = deliver.Delivery(Here(), ALLOC, [], lambda: None)  # type: ignore[arg-type]
    staged = deliver.Staged("/local/x", archive, carrier)
    env = {"PATH": f"{venv}/bin:/usr/bin", "VIRTUAL_ENV": str(venv), "PYTHONPATH": f"{venv}2", "OTHER": str(venv)}
    assert staged.environment(env) == {"PATH": "/local/x/env/bin:/usr/bin", "VIRTUAL_ENV": "/local/x/env"}
    assert staged.around.python == "/local/x/env/bin/python" and staged.around.owned == "/local/x"


def test_a_python_that_does_not_start_from_there_is_an_error(tmp_path: Path, venv: Path) -> None:
    archive = packed(tmp_path, venv)
    folder = tmp_path / "new"
    node.check(str(folder), 1)
    with tarfile.open(archive.path) as tar, tarfile.open(folder / node.ARCHIVE, "w") as out:
        for member in tar:
            if member.issym() and member.name.startswith("env/bin/python"):
                member.linkname = "/nowhere/python"
            out.addfile(member, tar.extractfile(member) if member.isreg() else None)
    with pytest.raises(Trouble, match=r"does not start from here: .*/nowhere/python"):
        node.unpack(str(folder))


# ---------------------------------------------------------------- what a node has


def test_a_disk_that_is_too_small_or_not_there_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(Trouble, match=r"has .* free, and the environment needs 1000000\.0 GB"):
        node.check(str(tmp_path / "x"), 10**15)
    with pytest.raises(Trouble, match="there is no folder /nowhere on this node"):
        node.check("/nowhere/x", 1)
    node.check(str(tmp_path / "x"), 1)
    with pytest.raises(Trouble, match="is there already: do nodes share"):
        node.check(str(tmp_path / "x"), 1)
    assert os.listdir(tmp_path) == ["x"]


def test_a_file_system_that_machines_share_is_no_disk_of_a_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "20 1 0:1 / / rw - ext4 /dev/sda rw\n"
        f"21 20 0:2 / {tmp_path}/home rw,relatime shared:1 - lustre server:/home rw\n"
        f"22 20 0:3 / {tmp_path}/home/local rw - xfs /dev/nvme rw\n"
    )
    (tmp_path / "home" / "local").mkdir(parents=True)
    kinds = [node.file_system(str(tmp_path / name), str(mounts)) for name in ("", "home", "home/local", "home/other")]
    assert kinds == ["ext4", "lustre", "xfs", "lustre"]
    monkeypatch.setattr(node, "file_system", lambda path: "nfs4")
    with pytest.raises(Trouble, match="is on nfs4, which is no disk of this node's own"):
        node.check(str(tmp_path / "x"), 1)


# ---------------------------------------------------------------- the tree

ALLOC = Allocation("1", (os.uname().nodename, "n2", "n3"), os.uname().nodename)


class Here:
    """Nodes that are processes of this machine, each with a folder of its own: a mount would hide the others' there."""

    def __init__(self, *folders: Path) -> None:
        self.folders = folders
        self.broken: Callable[[str], Sequence[str]] = lambda name: ()

    def on_each(self, alloc: Allocation, nodes: Sequence[str], argv: Sequence[str]) -> list[Command]:
        inside = ["unshare", "--mount", "bash", "-c", 'mount --bind "$0" "$1" && shift && exec "$@"']
        disk = self.folders[0].parent / "disk"
        own = dict(zip(ALLOC.nodes, [disk, *self.folders], strict=True))
        words = [[*inside, str(own[name]), str(disk), *self.broken(name), *argv] for name in nodes]
        return [Command(tuple(each), dict(os.environ)) for each in words]

    def broadcast(self, *_args: object) -> None:
        return None


@pytest.fixture
def cluster(tmp_path: Path) -> Here:
    if os.getuid() != 0:
        pytest.skip("mounts need root")
    folders = [tmp_path / name for name in ("disk", "disk2", "disk3")]
    for folder in folders:
        folder.mkdir()
    return Here(*folders[1:])


def bring(cluster: Here, archive: pack.Archived, look: Callable[[], object] = lambda: None) -> deliver.Staged:
    base = cluster.folders[0].parent / "disk"
    return deliver.deliver(archive, cluster, ALLOC, ALLOC.nodes, str(base), look, "127.0.0.1")  # type: ignore[arg-type]


def test_every_node_of_the_tree_has_the_environment(tmp_path: Path, venv: Path, cluster: Here) -> None:
    archive = packed(tmp_path, venv)
    staged = bring(cluster, archive)
    name = os.path.basename(staged.folder)
    assert name.startswith(f"hpc-{os.getuid()}-") and name.endswith(rundir.STAGED)
    for disk in (tmp_path / "disk", *cluster.folders):
        assert (disk / name / "env" / "bin" / "tool").exists() and not (disk / name / node.ARCHIVE).exists()
    assert not list(archive.path.parent.glob("join-*"))
    staged.clear()
    assert [os.listdir(disk) for disk in cluster.folders] == [[], []]


def nothing(tmp_path: Path, cluster: Here) -> bool:
    return [os.listdir(disk) for disk in (tmp_path / "disk", *cluster.folders)] == [[], [], []]


def test_damaged_bytes_are_noticed_on_every_node_and_nothing_stays(tmp_path: Path, venv: Path, cluster: Here) -> None:
    archive = packed(tmp_path, venv)
    about = archive.path.with_suffix(".json")
    about.write_text(json.dumps({**json.loads(about.read_text()), "digest": "0" * 64}))
    with pytest.raises(StageError, match="3 of 3 nodes") as raised:
        bring(cluster, pack.read(archive.path))
    assert node.NOT_THE_ARCHIVE in raised.value.why
    assert raised.value.fix == f"rm {shlex.quote(str(archive.path))}, and submit again: it is packed anew"
    assert nothing(tmp_path, cluster)


def test_an_archive_that_the_scheduler_has_copied_is_compared_before_it_is_unpacked(tmp_path: Path, venv: Path) -> None:
    archive = packed(tmp_path, venv)
    folder = tmp_path / "new"
    for damage in (b"", b"damaged"):
        node.check(str(folder), 1)
        with open(shutil.copy(archive.path, folder / node.ARCHIVE), "r+b") as file:
            file.seek(archive.size // 2)
            file.write(damage)
        done = subprocess.run([*NODE, "unpack", folder, archive.digest], capture_output=True, text=True, timeout=60)
        said = json.loads(done.stdout)["why"]
        assert (said, done.returncode) == ((node.NOT_THE_ARCHIVE, 1) if damage else ("", 0)), done.stderr
        assert (folder / "env").exists() is not bool(damage)
        node.clean(str(folder))


def test_a_node_that_leaves_ends_it_at_once_and_nothing_stays(tmp_path: Path, venv: Path, cluster: Here) -> None:
    cluster.broken = lambda name: (
        ("bash", "-c", '[ "$5" = clean ] && exec "$@"; exit 7', "bash") if name == "n3" else ()
    )
    began = time.monotonic()
    with pytest.raises(StageError, match="a node has left"):
        bring(cluster, packed(tmp_path, venv))
    assert time.monotonic() - began < node.JOIN_S / 4
    assert nothing(tmp_path, cluster)


def test_a_signal_ends_it_and_nothing_stays(tmp_path: Path, venv: Path, cluster: Here) -> None:
    def look() -> None:
        if any((tmp_path / "disk").iterdir()):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bring(cluster, packed(tmp_path, venv), look)
    assert nothing(tmp_path, cluster)


def test_a_stranger_gets_nothing(tmp_path: Path) -> None:
    server = node.Server("127.0.0.1", b"t" * 32, lambda sock: sock.sendall(b"secret"))
    with pytest.raises(OSError):
        node.call("127.0.0.1", server.port, b"x" * 32)
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(b"D" * 1000)
        sock.settimeout(5)
        said = b""
        try:
            while data := sock.recv(1000):
                said += data
        except OSError:
            pass
    assert b"secret" not in said
    with node.call("127.0.0.1", server.port, b"t" * 32) as sock:
        assert node.take(sock, 6) == b"secret"
    server.listener.close()


# ---------------------------------------------------------------- owned, and swept


def test_a_folder_without_an_owner_is_swept_once_nobody_makes_it_any_more(tmp_path: Path) -> None:
    fresh, old, dead = (tmp_path / f"hpc-{os.getuid()}-{name}-0{rundir.STAGED}" for name in ("a", "b", "c"))
    for folder in (fresh, old, dead):
        folder.mkdir()
    os.utime(old, (1, 1))
    (dead / "lock").touch()
    assert rundir.sweep(str(tmp_path)) == [str(old), str(dead)] or set(rundir.sweep(str(tmp_path))) == set()
    assert fresh.exists() and not old.exists() and not dead.exists()
    lock = rundir.own(str(fresh))
    os.utime(fresh, (1, 1))
    assert rundir.sweep(str(tmp_path)) == []
    os.close(lock)
    assert rundir.sweep(str(tmp_path)) == [str(fresh)]
