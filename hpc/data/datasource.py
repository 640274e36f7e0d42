"""Sources and targets of data for :func:`read_datasource` and :meth:`write_datasink`, and options of those of files."""

from __future__ import annotations

from hpc.data.block.accessor import BlockAccessor, BlockMetadata
from hpc.data.io.datasink import (
    BlockBasedFileDatasink,
    Datasink,
    RowBasedFileDatasink,
    WriteResult,
    WriteReturnType,
)
from hpc.data.io.datasource import Datasource, FileBasedDatasource, ReadTask
from hpc.data.io.filenames import FilenameProvider
from hpc.data.io.partitioning import Partitioning, PartitionStyle, PathPartitionFilter, PathPartitionParser
from hpc.data.io.stage import NodeStage
from hpc.data.options import FileShuffleConfig, SaveMode

__all__ = [
    "BlockAccessor",
    "BlockBasedFileDatasink",
    "BlockMetadata",
    "Datasink",
    "Datasource",
    "FileBasedDatasource",
    "FileShuffleConfig",
    "FilenameProvider",
    "NodeStage",
    "PartitionStyle",
    "Partitioning",
    "PathPartitionFilter",
    "PathPartitionParser",
    "ReadTask",
    "RowBasedFileDatasink",
    "SaveMode",
    "WriteResult",
    "WriteReturnType",
]
