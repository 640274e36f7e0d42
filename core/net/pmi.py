"""How the ranks of an MPI program find each other: the process manager's side of PMI-1, for one rank. Pure.

MPICH, and the libraries that come of it, ask whatever started them, by lines of text over a descriptor (``PMI_FD``).
How many are we? Keep this value of mine. Wait until all have come so far. What has rank 3 kept? A value that is put
counts for others after the next barrier. So nothing need travel but the barriers: what a rank has put goes out with
it, and what all have put comes back. Everything else is answered on the spot.

The protocol: W. Gropp and others, PMI: A Scalable Parallel Process-Management Interface for Extreme-Scale Systems,
EuroMPI 2010. Rejected: PMIx, which Open MPI speaks (a protocol of many binary messages, with a library of its own).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: The longest line, and the longest name of a table, key and value.
MAX_LINE_BYTES = 4096
KVSNAME_MAX, KEYLEN_MAX, VALLEN_MAX = 256, 64, 1024
#: Which ranks share a node: a key of the process manager's own.
MAPPING = "PMI_process_mapping"
#: Requests that a fixed world cannot serve, and the answers that say so.
REFUSED = {
    "spawn": "spawn_result",
    "publish_name": "publish_result",
    "unpublish_name": "unpublish_result",
    "lookup_name": "lookup_result",
}


class PmiError(ValueError):
    """A rank has written what is no request of PMI-1."""


def process_mapping(nodes: Sequence[int]) -> str:
    """The value of `MAPPING`: ``nodes`` has for each rank the number of its node, from 0 on.

    Blocks of (first node, number of nodes, ranks on each). Empty where that would be longer than a value may be: the
    library compares host names then.
    """
    runs: list[tuple[int, int]] = []  # (node, ranks that follow one another there)
    for node in nodes:
        if runs and runs[-1][0] == node:
            runs[-1] = (node, runs[-1][1] + 1)
        else:
            runs.append((node, 1))
    blocks: list[tuple[int, int, int]] = []
    for node, count in runs:
        if blocks and blocks[-1][2] == count and blocks[-1][0] + blocks[-1][1] == node:
            first, many, _ = blocks[-1]
            blocks[-1] = (first, many + 1, count)
        else:
            blocks.append((node, 1, count))
    text = f"(vector,{','.join(f'({first},{many},{count})' for first, many, count in blocks)})"
    return text if len(text) < VALLEN_MAX else ""


class PmiRank:
    """What is said to one rank of a world. ``nodes`` has for each rank the number of its node, from 0 on.

    ``feed`` takes what it has written and gives what to answer. While ``put`` is no None the rank waits in a barrier,
    and ``release`` lets it go on.
    """

    def __init__(self, rank: int, nodes: Sequence[int], world: str) -> None:
        self.rank, self.size, self.world = rank, len(nodes), world
        if not 0 <= rank < self.size:
            raise ValueError(f"rank {rank} is none of a world of {self.size}")
        #: What it may get: where the ranks are, what it has put itself, and what all had put at a barrier.
        self.values = {MAPPING: mapping} if (mapping := process_mapping(nodes)) else {}
        #: What it has put since the last barrier, while it waits in one.
        self.put: dict[str, str] | None = None
        #: It has left the world in peace.
        self.finalized = False
        #: It has called MPI_Abort: the exit code.
        self.aborted: int | None = None
        self._new: dict[str, str] = {}
        self._rest = b""
        self._request: list[tuple[str, str]] | None = None  # the lines of one that has many

    def feed(self, data: bytes) -> bytes:
        """Take what the rank has written; the answers. Raises PmiError for what is no request."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if max(map(len, (*lines, self._rest))) > MAX_LINE_BYTES:
            raise PmiError(f"a line of PMI has more than {MAX_LINE_BYTES} bytes")
        return b"".join(self._line(line) for line in lines)

    def release(self, values: Mapping[str, str]) -> bytes:
        """All ranks have come to the barrier, and have put these values; the answer."""
        if self.put is None:
            raise ValueError(f"rank {self.rank} waits in no barrier")
        self.put = None
        self.values.update(values)
        return b"cmd=barrier_out rc=0\n"

    def _line(self, line: bytes) -> bytes:
        try:
            text = line.decode("ascii")
        except UnicodeDecodeError:
            raise PmiError(f"a line of PMI is no ASCII text: {line[:80]!r}") from None
        if self.put is not None:
            raise PmiError(f"a request while the rank waits in a barrier: {text[:80]!r}")
        if self._request is not None or text.startswith("mcmd="):
            return self._many(text)
        if not text.strip(" \0"):
            return b""
        fields = dict(_field(part) for part in text.split(" ") if part)
        command = fields.get("cmd")
        if not command:
            raise PmiError(f"a line of PMI names no command: {text[:80]!r}")
        return self._answer(command, fields)

    def _many(self, text: str) -> bytes:
        """A line of a request that has many: it ends with one of its own."""
        if self._request is None:
            self._request = [("cmd", text.partition("=")[2])]
        elif text == "endcmd":
            (_, command), self._request = self._request[0], None
            return self._answer(command, {})
        return b""

    def _answer(self, command: str, fields: Mapping[str, str]) -> bytes:
        if command == "init":
            if fields.get("pmi_version") != "1":
                raise PmiError(f"the MPI library wants PMI {fields.get('pmi_version')}; this is PMI-1")
            return b"cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0\n"
        if command == "get_maxes":
            maxes = f"kvsname_max={KVSNAME_MAX} keylen_max={KEYLEN_MAX} vallen_max={VALLEN_MAX}"
            return f"cmd=maxes {maxes} rc=0\n".encode()
        if command == "get_appnum":
            return b"cmd=appnum appnum=0 rc=0\n"
        if command == "get_universe_size":
            return f"cmd=universe_size size={self.size} rc=0\n".encode()
        if command == "get_my_kvsname":
            return f"cmd=my_kvsname kvsname={self.world} rc=0\n".encode()
        if command == "put":
            return self._put(fields)
        if command == "get":
            return self._get(fields)
        if command == "barrier_in":
            self.put, self._new = self._new, {}
            return b""
        if command == "finalize":
            self.finalized = True
            return b"cmd=finalize_ack rc=0\n"
        if command == "abort":
            code = fields.get("exitcode", "1")
            self.aborted = int(code) if code.lstrip("-").isdigit() else 1
            return b""
        if command in REFUSED:
            return f"cmd={REFUSED[command]} rc=-1 msg=not_supported info=not_supported\n".encode()
        raise PmiError(f"the MPI library asks for {command!r}, which is no request of PMI-1")

    def _put(self, fields: Mapping[str, str]) -> bytes:
        key, value = fields.get("key", ""), fields.get("value", "")
        if not key or fields.get("kvsname", self.world) != self.world:
            return b"cmd=put_result rc=-1 msg=no_such_table\n"
        if len(key) > KEYLEN_MAX or len(value) > VALLEN_MAX:
            return b"cmd=put_result rc=-1 msg=too_long\n"
        if key in self.values:
            return b"cmd=put_result rc=-1 msg=duplicate_key\n"
        self._new[key] = self.values[key] = value
        return b"cmd=put_result rc=0 msg=success\n"

    def _get(self, fields: Mapping[str, str]) -> bytes:
        key = fields.get("key", "")
        if fields.get("kvsname", self.world) != self.world or key not in self.values:
            return b"cmd=get_result rc=-1 msg=key_not_found value=unknown\n"
        return f"cmd=get_result rc=0 msg=success value={self.values[key]}\n".encode()


def _field(part: str) -> tuple[str, str]:
    name, _, value = part.partition("=")
    return name, value
