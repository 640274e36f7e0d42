"""The files of a dataset, listed once: what has been listed is kept, and pickled instead of being listed again."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator

import pyarrow.fs as pafs

from hpc.data.io.listing import Entry, Listing


class Manifest:
    """The entries of a listing, read as they are wanted and kept. Several threads may iterate at once."""

    def __init__(self, listing: Listing | None, entries: list[Entry] | None = None) -> None:
        """``entries``, where they are given, are all there are: nothing is listed."""
        self.listing = listing
        self.known: list[Entry] = entries or []
        self.complete = entries is not None
        self.lock = threading.Lock()
        self.more: Iterator[Entry] | None = None

    def __iter__(self) -> Iterator[Entry]:
        index = 0
        while True:
            if index == len(self.known):
                if self.complete:
                    return
                with self.lock:
                    if index == len(self.known):
                        self.advance()
                continue
            yield self.known[index]
            index += 1

    def advance(self) -> None:
        """Take one more entry of the listing."""
        assert self.listing is not None
        if self.complete:
            return
        if self.more is None:
            self.more = iter(self.listing)
        entry = next(self.more, None)
        if entry is None:
            self.complete, self.more = True, None
        else:
            self.known.append(entry)

    def all(self) -> list[Entry]:
        """Every entry; waits for the end of the listing."""
        for _ in self:
            pass
        return self.known

    def first(self) -> Entry | None:
        """The first entry, or None if there is none."""
        return next(iter(self), None)

    def __getstate__(self) -> dict[str, object]:
        return {"listing": self.listing, "known": self.known if self.complete else None}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__init__(state["listing"], state["known"])  # type: ignore[misc]

    # -------------------------------------------------------------- kept on disk

    def save(self, path: str) -> None:
        """Write all entries to a file, which ``load`` reads: a later session need not list."""
        part = f"{path}.part-{os.getpid()}"
        with open(part, "w") as file:
            for entry in self.all():
                file.write(json.dumps(entry) + "\n")
        os.replace(part, path)

    @classmethod
    def load(cls, path: str) -> Manifest:
        """The entries that ``save`` wrote."""
        with open(path) as file:
            return cls(None, [Entry(*json.loads(line)) for line in file])


def of(
    roots: list[str],
    filesystem: pafs.FileSystem | None,
    extensions: list[str] | None,
    ignore_missing: bool,
) -> Manifest:
    """The manifest of some paths.

    Raises FileNotFoundError for the first path if it is missing, and ValueError if there is no file at all.
    """
    listing = Listing(tuple(roots), filesystem, None if extensions is None else tuple(extensions), ignore_missing)
    manifest = Manifest(listing)
    if manifest.first() is None:
        what = "files" if extensions is None else f"files that end in {', '.join(extensions)}"
        ignored = "; missing paths were ignored (ignore_missing_paths)" if ignore_missing else ""
        shown = ", ".join(roots[:3]) + (", ..." if len(roots) > 3 else "")
        raise ValueError(
            f"there are no {what} under {shown}{ignored}. Names that begin with '.' or '_' are left out in folders; "
            "file_extensions=None reads files of any name"
        )
    return manifest
