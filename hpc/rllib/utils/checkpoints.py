"""Objects with state that are written into directories: each part of them into a directory of its own."""

from __future__ import annotations

import inspect
import json
import os
import pickle
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle

if TYPE_CHECKING:
    from typing_extensions import Self

#: The layout, as RLlib counts it.
CHECKPOINT_VERSION = "2.1"


class Checkpointable:
    """An object with get_state and set_state, parts of the same kind, and the arguments to make it again.

    A directory has metadata.json, class_and_ctor_args.pkl, the state, and a directory for each part.
    """

    STATE_FILE_NAME = "state"
    CLASS_AND_CTOR_ARGS_FILE_NAME = "class_and_ctor_args.pkl"
    METADATA_FILE_NAME = "metadata.json"

    # what classes define

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The state. components: only of these parts ("part/part of it"); not_components: without these."""
        raise NotImplementedError(f"{type(self).__name__} needs a method get_state")

    def set_state(self, state: dict[str, Any]) -> None:
        """Take up a state; of parts that are not in it, nothing changes."""
        raise NotImplementedError(f"{type(self).__name__} needs a method set_state")

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments with which the object can be made again."""
        return (), {}

    def get_checkpointable_components(self) -> list[tuple[str, Any]]:
        """The parts that have a directory of their own: (name, part)."""
        return []

    def get_metadata(self) -> dict[str, Any]:
        """What the directory says of itself, as JSON."""
        from hpc import __version__

        return {
            "class_and_ctor_args_file": self.CLASS_AND_CTOR_ARGS_FILE_NAME,
            "state_file": self.STATE_FILE_NAME,
            "hpc_version": __version__,
            "checkpoint_version": CHECKPOINT_VERSION,
        }

    # what drives them

    def save_to_path(
        self,
        path: str | Path | None = None,
        *,
        state: dict[str, Any] | None = None,
        filesystem: Any = None,
        use_msgpack: bool = False,
    ) -> str:
        """Write the state (or this one) into a directory, which is made if need be; its path.

        path: None: a new temporary directory. filesystem: a pyarrow filesystem that the path is of. A checkpoint that
        is there already stays until the new one is whole.
        Raises ValueError for use_msgpack: the state is written as pickle.
        """
        if use_msgpack:
            raise ValueError("checkpoints are written as pickle: leave use_msgpack out")
        if path is None:
            path = tempfile.mkdtemp(prefix="hpc-checkpoint-")
        with _written(path, filesystem, f"{self.STATE_FILE_NAME}.pkl") as local:
            self._write(local, state)
        return str(path)

    def _write(self, path: Path, state: dict[str, Any] | None) -> None:
        path.mkdir(parents=True, exist_ok=True)
        _put(path / self.METADATA_FILE_NAME, json.dumps(self.get_metadata()).encode())
        made_by = {"class": type(self), "ctor_args_and_kwargs": self.get_ctor_args_and_kwargs()}
        _put(path / self.CLASS_AND_CTOR_ARGS_FILE_NAME, cloudpickle.dumps(made_by))
        parts = self.get_checkpointable_components()
        state = dict(self.get_state() if state is None else state)
        for name, part in parts:
            if name in state:
                part.save_to_path(path / name, state=state.pop(name))
        _put(path / f"{self.STATE_FILE_NAME}.pkl", cloudpickle.dumps(state))

    def restore_from_path(
        self, path: str | Path, *, component: str | None = None, filesystem: Any = None, **kwargs: Any
    ) -> None:
        """Take up the state of a directory. component: only this part, of which the path is the directory.

        Raises FileNotFoundError where there is no such directory.
        """
        with _read(path, filesystem) as local:
            self._restore(local, component, kwargs)

    def _restore(self, path: Path, component: str | None, kwargs: dict[str, Any]) -> None:
        if not path.is_dir():
            raise FileNotFoundError(f"there is no checkpoint at {path}")
        if component is not None:
            first, _, rest = component.partition("/")
            within = {"component": rest} if rest else {}
            _part(self, first).restore_from_path(path, **within, **kwargs)
            return
        if not (path / f"{self.STATE_FILE_NAME}.pkl").is_file():
            raise FileNotFoundError(f"{path} is no whole checkpoint: it has no {self.STATE_FILE_NAME}.pkl")
        known = self._restore_parts(path, set(), kwargs)
        with open(path / f"{self.STATE_FILE_NAME}.pkl", "rb") as file:
            self.set_state(pickle.load(file))
        self._restore_parts(path, known, kwargs)

    def _restore_parts(self, path: Path, known: set[str], kwargs: dict[str, Any]) -> set[str]:
        """Restore parts that are not known yet: some are there only when the state is."""
        for name, part in self.get_checkpointable_components():
            if name not in known and (path / name).is_dir():
                part.restore_from_path(path / name, **kwargs)
                known.add(name)
        return known

    @classmethod
    def from_checkpoint(cls, path: str | Path, filesystem: Any = None, **kwargs: Any) -> Self:
        """A new object of the class, and with the arguments, of the directory; kwargs replace its arguments.

        Raises ValueError where the directory is of another class.
        """
        with _read(path, filesystem) as local:
            kind, args, named = made_by(local, cls.CLASS_AND_CTOR_ARGS_FILE_NAME)
            if not issubclass(kind, cls):
                raise ValueError(f"the checkpoint {path} is of {kind.__name__}, which is no {cls.__name__}")
            args = list(args)
            for index, parameter in enumerate(inspect.signature(kind).parameters):
                if parameter in kwargs:
                    if index < len(args):
                        args[index] = kwargs.pop(parameter)
                    else:
                        named[parameter] = kwargs.pop(parameter)
            made = kind(*args, **named)
            made.restore_from_path(local, **kwargs)
        return made

    # which parts

    def _check_component(self, name: str, components: Any, not_components: Any) -> bool:
        """Whether this part is wanted."""
        wanted, unwanted = _listed(components), _listed(not_components)
        chosen = components is None or any(one == name or one.startswith(f"{name}/") for one in wanted)
        return chosen and name not in unwanted

    def _get_subcomponents(self, name: str, components: Any) -> list[str] | None:
        """Which parts of this part are wanted; None: all."""
        found = [one[len(name) + 1 :] for one in _listed(components) if one.startswith(f"{name}/")]
        return found or None


def made_by(path: Path, file_name: str = Checkpointable.CLASS_AND_CTOR_ARGS_FILE_NAME) -> tuple[Any, Any, Any]:
    """The class, the arguments and the keyword arguments with which a directory's object was made.

    Raises FileNotFoundError where the directory is no checkpoint.
    """
    try:
        with open(path / file_name, "rb") as file:
            found = pickle.load(file)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is no checkpoint of hpc.rllib: it has no {file_name}") from None
    args, named = found["ctor_args_and_kwargs"]
    return found["class"], args, dict(named)


def pack(component: Any, state: dict[str, Any] | None = None) -> dict[str, bytes]:
    """The files of an object's checkpoint, for an actor that another node's disk is to have them from."""
    path = tempfile.mkdtemp(prefix="hpc-checkpoint-")
    try:
        component.save_to_path(path, state=state)
        files = {}
        for above, _, names in os.walk(path):
            for name in names:
                whole = os.path.join(above, name)
                with open(whole, "rb") as file:
                    files[os.path.relpath(whole, path)] = file.read()
        return files
    finally:
        shutil.rmtree(path)


def unpack(files: dict[str, bytes], path: str | Path) -> None:
    """Write files that `pack` has read into a directory."""
    for name, data in files.items():
        place = Path(path, name)
        place.parent.mkdir(parents=True, exist_ok=True)
        _put(place, data)


def try_import_msgpack(error: bool = False) -> Any:
    """msgpack, if it is installed. Raises ImportError where it is not, if an error is wanted."""
    try:
        import msgpack

        return msgpack
    except ImportError:
        if error:
            raise ImportError("pip install msgpack") from None
        return None


def _put(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def _part(owner: Checkpointable, component: str) -> Any:
    for name, part in owner.get_checkpointable_components():
        if name == component:
            return part
    names = ", ".join(name for name, _ in owner.get_checkpointable_components())
    raise ValueError(f"{type(owner).__name__} has no part {component!r}; it has: {names or 'none'}")


def _listed(given: Any) -> list[str]:
    if given is None:
        return []
    return [given] if isinstance(given, str) else list(given)


@contextmanager
def _written(path: str | Path, filesystem: Any, last: str) -> Iterator[Path]:
    """A local directory; what is in it in the end is at the path. last: the file without which it is not whole."""
    filesystem, remote = _where(path, filesystem)
    if filesystem is None:
        target = Path(remote)
        if not target.is_dir() or not any(target.iterdir()):
            yield target
            return
        beside = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=target))
        try:
            (beside / "new").mkdir()
            yield beside / "new"
            _exchange(beside, target, last)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        return
    with tempfile.TemporaryDirectory(prefix="hpc-checkpoint-") as local:
        yield Path(local)
        from pyarrow.fs import copy_files

        filesystem.create_dir(remote, recursive=True)
        copy_files(local, remote, destination_filesystem=filesystem)


def _exchange(beside: Path, target: Path, last: str) -> None:
    """Put what is new in the place of what is old; an end in the middle leaves no file that says that all is there."""
    (beside / "old").mkdir()
    names = sorted(os.listdir(beside / "new"), key=lambda name: name == last)
    for name in (last, *names):
        if os.path.lexists(target / name) and not os.path.lexists(beside / "old" / name):
            os.rename(target / name, beside / "old" / name)
    for name in names:
        os.rename(beside / "new" / name, target / name)


@contextmanager
def _read(path: str | Path, filesystem: Any) -> Iterator[Path]:
    """A local directory with what is at the path."""
    path = getattr(path, "path", path)
    filesystem, remote = _where(path, filesystem)
    if filesystem is None:
        yield Path(remote)
        return
    with tempfile.TemporaryDirectory(prefix="hpc-checkpoint-") as local:
        from pyarrow.fs import copy_files

        copy_files(remote, local, source_filesystem=filesystem)
        yield Path(local)


def _where(path: str | Path, filesystem: Any) -> tuple[Any, str]:
    """The filesystem, None for the local one, and the path there."""
    text = str(path)
    if filesystem is None and "://" in text:
        from pyarrow.fs import FileSystem

        filesystem, text = FileSystem.from_uri(text)
    if filesystem is not None and type(filesystem).__name__ == "LocalFileSystem":
        filesystem = None
    return filesystem, text
