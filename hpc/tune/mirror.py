"""The journal of an experiment whose results are on a file system of pyarrow's (an object store, say).

There a file can only be replaced whole. So the journal and the states grow in a directory of this machine. A thread
copies them now and then, less often where that takes long, and once more at the end. What a driver that is killed had
not copied yet is lost, so nothing that the copy still names is deleted before.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import time

from hpc.runs.files import files_of, join
from hpc.runs.uploading import MARKER_FILE, Place
from hpc.tune.error import TuneError
from hpc.tune.journal import FILE, STATE_FILE

#: Seconds between two copies. They take at most one part in 20 of the time.
COPY_S, SHARE = 2.0, 19.0
#: At the end a copy that fails is tried again, so often and after so many seconds.
LAST_TRIES, TRY_AGAIN_S = 5, 2.0


class Mirror:
    """place: the experiment's directory and the token of its driver; local: the directory here, which is made."""

    def __init__(self, place: Place, local: str) -> None:
        self._place = place
        self._files = files_of(place.filesystem)
        self.local = local
        #: The position of the journal up to which it is copied.
        self.copied = 0
        #: Why the last copy has failed, if it has; what cannot be mended is raised by `turn`.
        self.failure = ""
        self._taken = ""
        self._wanted = 0
        self._next_s = time.monotonic()
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    def fetch(self) -> None:
        """Bring what an earlier driver has copied to the directory here. Raises TuneError where that cannot be read."""
        os.makedirs(self.local, exist_ok=True)
        for name in (FILE, STATE_FILE):
            try:
                data = self._files.read(join(self._place.experiment_fs_path, name))
            except FileNotFoundError:
                continue
            except OSError as error:
                raise TuneError(f"{name} of {self._place} cannot be read: {error}") from None
            with open(os.path.join(self.local, name), "wb") as file:
                file.write(data)

    def turn(self, position: int) -> None:
        """The journal is on disk here up to this position: copy it, if it is time.

        Raises TuneError where another driver has taken the experiment up.
        """
        if self._taken:
            raise TuneError(self._taken)
        if position <= self.copied or time.monotonic() < self._next_s:
            return
        with self._changed:
            self._wanted = position
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="hpc-tune-mirror", daemon=True)
                self._thread.start()
            self._changed.notify()
        self._next_s = float("inf")

    def close(self, position: int) -> None:
        """Copy what there is, and delete it here. Raises TuneError, which says where it is, when that fails."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
        for tried in range(LAST_TRIES):
            if tried:
                time.sleep(TRY_AGAIN_S)
            if self._copy(position) or self._taken:
                break
        if self._taken:
            raise TuneError(self._taken)
        if self.failure:
            saved = tempfile.mkdtemp(prefix="hpc-tune-")
            shutil.copytree(self.local, saved, dirs_exist_ok=True)
            raise TuneError(
                f"the journal of the experiment cannot be copied to {self._place}: {self.failure}. It is whole in "
                f"{saved}: copy {FILE} and {STATE_FILE} from there, and start the experiment again, which goes on"
            )
        shutil.rmtree(self.local, ignore_errors=True)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._closing)
                if self._closing:
                    return
                position, self._wanted = self._wanted, 0
            began = time.monotonic()
            self._copy(position)
            now = time.monotonic()
            self._next_s = now + max(COPY_S, SHARE * (now - began))

    def _is_own(self) -> bool:
        """Whether the directory's mark is still this driver's. Raises what reading it raises."""
        try:
            mark = self._files.read(join(self._place.experiment_fs_path, MARKER_FILE))
        except FileNotFoundError:
            return False
        return mark == self._place.token.encode()

    def _copy(self, position: int) -> bool:
        """The states are of no later position than the journal: they are read first, and written last."""
        try:
            if not self._is_own():
                self._taken = (
                    f"this driver has lost the experiment in {self._place}: another one has begun with this name and "
                    "storage_path"
                )
                return False
            states = None
            with contextlib.suppress(FileNotFoundError), open(os.path.join(self.local, STATE_FILE), "rb") as file:
                states = file.read()
            with open(os.path.join(self.local, FILE), "rb") as file:
                self._files.write(join(self._place.experiment_fs_path, FILE), file.read())
            if states is not None:
                self._files.write(join(self._place.experiment_fs_path, STATE_FILE), states)
        except Exception as error:  # pyarrow's are of several kinds
            self.failure = str(error) or repr(error)
            return False
        self.failure = ""
        self.copied = max(self.copied, position)
        return True
