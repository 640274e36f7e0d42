"""The names of written files. They do not depend on the attempt of a task: a second attempt replaces the first."""

from __future__ import annotations


class FilenameProvider:
    """Names the file of each task of a write. Override ``get_filename_for_task`` for other names.

    A write of one file for each row adds ``_{block:06}_{row:06}`` before the extension.
    """

    def __init__(self, dataset_uuid: str | None = None, file_format: str | None = None) -> None:
        self.dataset_uuid = dataset_uuid
        self.file_format = file_format

    def get_filename_for_task(self, write_uuid: str, task_index: int) -> str:
        """The name of a task's file: different for each task, and the same each time."""
        first = f"{self.dataset_uuid}_" if self.dataset_uuid is not None else ""
        last = f".{self.file_format}" if self.file_format is not None else ""
        return f"{first}{write_uuid}_{task_index:06}{last}"


def split_extension(name: str) -> tuple[str, str]:
    """A name without and with its last extension: ("a.b", ".csv")."""
    base, dot, extension = name.rpartition(".")
    return (base, dot + extension) if dot else (name, "")
