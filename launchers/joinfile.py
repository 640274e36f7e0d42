"""The file by which other machines join a session: where it listens, and the keys that prove who may.

It is a secret: whoever can read it can run code as its user. So it is written with mode 0600, and read only where
nobody else could have read or written it. It is never put on a command line or into the environment, and it is removed
with the session.
"""

from __future__ import annotations

import json
import os
import shlex
import stat
import time
from dataclasses import asdict, dataclass, field

from hpc.core.net.curve import KeyPair, key_to_user_id

FIRST_WAIT_S, MOST_WAIT_S = 0.02, 1.0  # between two looks for a file that has not come yet


class JoinFileError(Exception):
    """The file cannot be used; the text says why and what to do."""


@dataclass(frozen=True)
class JoinFile:
    """What a joining machine has to know. `secret` is the half of the joining key that proves the right to join.

    hosts: the names of the machines that are waited for, by commas, in the order of their ranks; "" where any may come.
    """

    session: str
    endpoint: str
    server_key: str
    public: str
    secret: str = field(repr=False)
    hosts: str = ""

    @property
    def keys(self) -> KeyPair:
        """The joining key pair."""
        return KeyPair(self.public, self.secret)

    @property
    def text(self) -> str:
        """What is in the file. It is the secret itself."""
        return json.dumps({"hpc": "join", **asdict(self)})

    def write(self, path: str) -> None:
        """Write the file, whole or not at all; JoinFileError where that is impossible."""
        partial = f"{path}.{os.getpid()}.part"
        try:
            fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(fd, "w") as file:
                file.write(self.text)
            os.replace(partial, path)
        except OSError as error:
            raise JoinFileError(f"the join file {path} cannot be written: {error.strerror}") from None


def read_join_file(path: str) -> JoinFile:
    """Raises JoinFileError if the file is missing, malformed, or readable for others."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise JoinFileError(f"the join file {path} cannot be read: {error.strerror}") from None
    with os.fdopen(fd) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise JoinFileError(f"the join file {path} is not this user's alone: chmod 600 {shlex.quote(str(path))}")
        return parse_join(file.read(), path)


def parse_join(text: str, source: str) -> JoinFile:
    """The facts in such a file; JoinFileError, which names the source, where they are none."""
    try:
        facts = json.loads(text)
        if facts.pop("hpc") != "join":
            raise ValueError
        join = JoinFile(**{str(name): str(value) for name, value in facts.items()})
        key_to_user_id(join.server_key)
        return join
    except (ValueError, TypeError, KeyError, AttributeError):
        raise JoinFileError(f"{source} is no join file: `hpc start --head --join-file=FILE` writes one") from None


def await_join_file(path: str, timeout_s: float) -> JoinFile:
    """The same, of a file that may not be there yet; JoinFileError when it has not come in time."""
    end = time.monotonic() + timeout_s
    wait_s = FIRST_WAIT_S
    while not os.path.exists(path):
        if time.monotonic() > end:
            raise JoinFileError(f"the join file {path} has not come within {timeout_s:g} s")
        time.sleep(wait_s)
        wait_s = min(MOST_WAIT_S, wait_s * 1.5)
    return read_join_file(path)


def remove_join_file(path: str, session: str) -> None:
    """Remove the file if it still is that of this session."""
    try:
        if read_join_file(path).session == session:
            os.unlink(path)
    except (JoinFileError, OSError):
        return
