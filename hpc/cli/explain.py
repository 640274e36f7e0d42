"""`hpc explain`: what an error code means."""

from __future__ import annotations

from hpc.cli.words import parse_mixed
from hpc.settings import errors
from hpc.settings.errors import CliError

USAGE = "hpc explain [CODE]"


def run(words: list[str]) -> int:
    """Print the text of an error code, or all codes."""
    _options, rest = parse_mixed((), words[1:])
    if not rest:
        print("\n".join(errors.CATALOGUE))
        return 0
    text = errors.explain(rest[0])
    if text is None:
        raise CliError("USAGE", f"no such error code: {rest[0]}", why=f"there are: {', '.join(errors.CATALOGUE)}")
    print(text)
    return 0
