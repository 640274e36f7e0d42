"""From an archive on the shared file system to a folder on each node's own disk, each byte read once.

Some schedulers copy a file to all nodes of a job. Then there are three commands: one makes and checks the folders, one
copies, one unpacks. Elsewhere, and for a part of an allocation, the nodes make a tree of copies of their
own (node.py), which does all three. A node that cannot have the environment is named with its reason, before anything
of the session runs.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpc.core.node import rundir
from hpc.launchers.hostnames import compress_nodes
from hpc.launchers.node_group import Surroundings
from hpc.launchers.run import Background, CommandAnswer
from hpc.launchers.scheduler import Allocation, Command, NoAnswer, Scheduler
from hpc.launchers.staging import node
from hpc.launchers.staging.pack import Archived, StageError

CHECK_S = 120.0
COPY_S = 3600.0
CLEAN_S = 60.0
LOOK_S = 0.02
#: Room that is asked for beyond the files' own sizes: blocks are filled in part.
SLACK = 1.05
#: Variables with places in an environment.
VARIABLES = ("PATH", "PYTHONPATH", "VIRTUAL_ENV", "CONDA_PREFIX", "LD_LIBRARY_PATH")

#: Is called again and again while something is waited for; raises to end that.
Look = Callable[[], object]


@dataclass(frozen=True)
class Staged:
    """An environment that is on every node, in the same folder of its own disk."""

    folder: str
    packed: Archived
    carrier: Delivery

    def clear(self) -> None:
        """Take it away from nodes that were never started, and so cannot do it; on the others nothing is left of it."""
        self.carrier.clean(self.folder)

    @property
    def around(self) -> Surroundings:
        return Surroundings(python=os.path.join(self.folder, self.packed.python), owned=self.folder)

    def environment(self, env: Mapping[str, str]) -> dict[str, str]:
        """What changes in the variables of who works with it: places of the environment are those on the node."""
        changed = {name: self._moved(env[name]) for name in VARIABLES if env.get(name)}
        return {name: value for name, value in changed.items() if value != env[name]}

    def _moved(self, value: str) -> str:
        return os.pathsep.join(self._moved_path(part) for part in value.split(os.pathsep))

    def _moved_path(self, path: str) -> str:
        for old, new in self.packed.prefixes.items():
            if path == old or path.startswith(old + os.sep):
                return os.path.join(self.folder, new) + path[len(old) :]
        return path


def choose_base(option: str | None, variables: Sequence[str], env: Mapping[str, str]) -> str:
    """The node's own disk: as asked for, else what the scheduler says of it in one of its variables, else /tmp."""
    named = option or next((env[name] for name in (*variables, "TMPDIR") if env.get(name)), "/tmp")
    return os.path.abspath(os.path.expandvars(named))


def deliver(
    packed: Archived,
    scheduler: Scheduler,
    alloc: Allocation,
    nodes: Sequence[str],
    base: str,
    look: Look,
    addr: str,
) -> Staged:
    """Bring an archive to the disks of these nodes of the allocation that we are in.

    base: a folder on each node's own disk. addr: where this node can be reached by the others. Raises StageError; what
    `look` raises ends it too. In both cases nothing stays on any node that still answers.
    """
    folder = os.path.join(base, f"hpc-{os.getuid()}-{secrets.token_hex(6)}-0{rundir.STAGED}")
    archive = os.path.join(folder, node.ARCHIVE)
    carrier = Delivery(scheduler, alloc, nodes, look)
    try:
        copy = scheduler.broadcast(alloc, nodes, str(packed.path), archive)
        if copy is None:
            carrier.tree(packed, folder, addr)
        else:
            carrier.steps(packed, folder, copy)
    except NoAnswer as error:
        raise StageError("--stage is not possible here", why=str(error)) from None
    return Staged(folder, packed, carrier)


def needed(packed: Archived) -> int:
    """The bytes that a node must have free: for the archive and for what comes out of it."""
    return int((packed.size + int(packed.facts["bytes"])) * SLACK)


class Delivery:
    """Runs commands on the nodes, and reads what they say of each."""

    def __init__(self, scheduler: Scheduler, alloc: Allocation, nodes: Sequence[str], look: Look) -> None:
        self.scheduler, self.alloc, self.nodes, self.look = scheduler, alloc, list(nodes), look

    def steps(self, packed: Archived, folder: str, copy: Command) -> None:
        try:
            self._say(self._on_each(["check", folder, str(needed(packed))], CHECK_S), packed)
            (answer,) = self._wait([copy], COPY_S)
            if not answer.ok:
                raise StageError("the environment was not copied to the nodes", why=answer.why())
            self._say(self._on_each(["unpack", folder, packed.digest], COPY_S), packed)
        except BaseException:
            self.clean(folder)
            raise

    def tree(self, packed: Archived, folder: str, addr: str) -> None:
        here = next((name for name in self.nodes if self._is_here(name)), None)
        if here is None and len(self.nodes) > 1:
            what = "the nodes get the environment from each other, and this is none of them"
            raise StageError(what, fix="start hpc-launch in a job script, or use all nodes of the allocation")
        join = packed.path.parent / f"join-{secrets.token_hex(6)}"
        order = {
            "archive": str(packed.path), "size": packed.size, "digest": packed.digest, "folder": folder,
            "need": needed(packed), "nodes": len(self.nodes), "addr": addr, "join": str(join),
        }  # fmt: skip
        others = [name for name in self.nodes if name != here]
        leaves = self.scheduler.on_each(self.alloc, others, _program("leaf", str(join))) if others else []
        root = Command(tuple(_program("root", json.dumps(order))), dict(os.environ))
        try:
            answers = self._wait([root, *leaves], COPY_S, together=True)
        except BaseException:
            join.unlink(missing_ok=True)
            self.clean(folder)  # the commands were ended, and maybe what they had started
            raise
        self._say(answers[:1], packed)

    def _is_here(self, name: str) -> bool:
        return name.split(".")[0] == os.uname().nodename.split(".")[0] or name == self.alloc.here

    def _on_each(self, words: Sequence[str], timeout_s: float) -> list[CommandAnswer]:
        commands = self.scheduler.on_each(self.alloc, self.nodes, _program(*words))
        return self._wait(commands, timeout_s)

    def _wait(self, commands: Sequence[Command], timeout_s: float, *, together: bool = False) -> list[CommandAnswer]:
        """Their answers. together: the first one waits for all others, so that none of these may fail before it."""
        running = [Background(command.argv, timeout_s=timeout_s, env=command.env) for command in commands]
        try:
            answers = [each.poll() for each in running]
            while any(answer is None for answer in answers):
                self.look()
                early = [each for each in answers[1:] if together and each is not None and not each.ok]
                if early:
                    raise StageError("a node has left while the environment was brought to all", why=early[0].why())
                time.sleep(LOOK_S)
                answers = [each.poll() for each in running]
            return [answer for answer in answers if answer is not None]
        finally:
            for each in running:
                each.close()

    def _say(self, answers: Sequence[CommandAnswer], packed: Archived) -> None:
        """StageError naming the nodes where something is wrong, those that are alike together."""
        lines = "".join(answer.out for answer in answers).splitlines()
        said = [json.loads(line) for line in lines if line.startswith("{")]
        wrong: dict[str, list[str]] = {}
        for host, why in ((str(row["host"]), str(row["why"])) for row in said):
            if why:
                wrong.setdefault(why, []).append(host)
        if wrong:
            lines = [f"{compress_nodes(hosts)}: {why}" for why, hosts in wrong.items()]
            raise StageError(
                f"the environment cannot be brought to {sum(map(len, wrong.values()))} of {len(self.nodes)} nodes",
                "\n".join(lines), self._fix(wrong, packed),
            )  # fmt: skip
        if len(said) < len(self.nodes):
            silent = "; ".join(answer.why() for answer in answers if not answer.ok)
            many = f"{len(self.nodes) - len(said)} of {len(self.nodes)} nodes"
            raise StageError(f"nothing was heard of the environment from {many}", why=silent)

    def _fix(self, wrong: Mapping[str, Sequence[str]], packed: Archived) -> str:
        """Bytes that are wrong on every node were so in the archive itself."""
        if len(wrong.get(node.NOT_THE_ARCHIVE, ())) == len(self.nodes):
            return f"rm {shlex.quote(str(packed.path))}, and submit again: it is packed anew"
        return "--stage-dir=DIR, on each node's own disk"

    def clean(self, folder: str) -> None:
        """What can be reached is cleared up; what cannot is swept when this user's next session starts there."""
        self.look = lambda: None
        self._on_each(["clean", folder], CLEAN_S)


def _program(*words: str) -> list[str]:
    """node.py by its path, in a Python that looks for no packages."""
    return [sys.executable, "-I", "-S", str(Path(node.__file__)), *words]
