"""Data sets that stream through tasks and actors: Ray Data's names and semantics, on Arrow tables.

Names are imported when first used. pyarrow has to be installed: ``pip install hpc[data]``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpc.util.lazy import LazyNames

try:
    import pyarrow as _pyarrow  # noqa: F401
except ImportError as error:
    raise ImportError("hpc.data needs pyarrow: pip install 'hpc[data]'") from error

from hpc.data import pandas_later

pandas_later.put_off()

if TYPE_CHECKING:
    from hpc.data.block.schema import Schema as Schema
    from hpc.data.compute import ActorPoolStrategy as ActorPoolStrategy
    from hpc.data.compute import TaskPoolStrategy as TaskPoolStrategy
    from hpc.data.context import DataContext as DataContext
    from hpc.data.context import DatasetContext as DatasetContext
    from hpc.data.dataset import Dataset as Dataset
    from hpc.data.datasource import BlockBasedFileDatasink as BlockBasedFileDatasink
    from hpc.data.datasource import Datasink as Datasink
    from hpc.data.datasource import Datasource as Datasource
    from hpc.data.datasource import ReadTask as ReadTask
    from hpc.data.datasource import RowBasedFileDatasink as RowBasedFileDatasink
    from hpc.data.io.read_api import from_arrow as from_arrow
    from hpc.data.io.read_api import from_arrow_refs as from_arrow_refs
    from hpc.data.io.read_api import from_blocks as from_blocks
    from hpc.data.io.read_api import from_daft as from_daft
    from hpc.data.io.read_api import from_dask as from_dask
    from hpc.data.io.read_api import from_huggingface as from_huggingface
    from hpc.data.io.read_api import from_items as from_items
    from hpc.data.io.read_api import from_modin as from_modin
    from hpc.data.io.read_api import from_numpy as from_numpy
    from hpc.data.io.read_api import from_numpy_refs as from_numpy_refs
    from hpc.data.io.read_api import from_pandas as from_pandas
    from hpc.data.io.read_api import from_pandas_refs as from_pandas_refs
    from hpc.data.io.read_api import from_spark as from_spark
    from hpc.data.io.read_api import from_tf as from_tf
    from hpc.data.io.read_api import from_torch as from_torch
    from hpc.data.io.read_api import range as range
    from hpc.data.io.read_api import range_tensor as range_tensor
    from hpc.data.io.read_api import read_audio as read_audio
    from hpc.data.io.read_api import read_avro as read_avro
    from hpc.data.io.read_api import read_binary_files as read_binary_files
    from hpc.data.io.read_api import read_csv as read_csv
    from hpc.data.io.read_api import read_datasource as read_datasource
    from hpc.data.io.read_api import read_delta as read_delta
    from hpc.data.io.read_api import read_hdf5 as read_hdf5
    from hpc.data.io.read_api import read_iceberg as read_iceberg
    from hpc.data.io.read_api import read_images as read_images
    from hpc.data.io.read_api import read_json as read_json
    from hpc.data.io.read_api import read_lance as read_lance
    from hpc.data.io.read_api import read_mcap as read_mcap
    from hpc.data.io.read_api import read_netcdf as read_netcdf
    from hpc.data.io.read_api import read_numpy as read_numpy
    from hpc.data.io.read_api import read_orc as read_orc
    from hpc.data.io.read_api import read_parquet as read_parquet
    from hpc.data.io.read_api import read_sql as read_sql
    from hpc.data.io.read_api import read_text as read_text
    from hpc.data.io.read_api import read_tfrecords as read_tfrecords
    from hpc.data.io.read_api import read_videos as read_videos
    from hpc.data.io.read_api import read_webdataset as read_webdataset
    from hpc.data.io.read_api import read_zarr as read_zarr
    from hpc.data.iterator import DataIterator as DataIterator
    from hpc.data.iterator import DatasetIterator as DatasetIterator
    from hpc.data.options import ExecutionOptions as ExecutionOptions
    from hpc.data.options import ExecutionResources as ExecutionResources
    from hpc.data.options import FileShuffleConfig as FileShuffleConfig
    from hpc.data.options import MixStoppingCondition as MixStoppingCondition
    from hpc.data.options import NodeIdStr as NodeIdStr
    from hpc.data.options import RandomSeedConfig as RandomSeedConfig
    from hpc.data.options import SaveMode as SaveMode
    from hpc.data.options import SinkMode as SinkMode
    from hpc.data.preprocessor import Preprocessor as Preprocessor
    from hpc.data.summary import DatasetSummary as DatasetSummary

#: Where each name is.
_HOME = {
    "ActorPoolStrategy": "hpc.data.compute",
    "BlockBasedFileDatasink": "hpc.data.datasource",
    "DataContext": "hpc.data.context",
    "DataIterator": "hpc.data.iterator",
    "Dataset": "hpc.data.dataset",
    "DatasetContext": "hpc.data.context",
    "DatasetIterator": "hpc.data.iterator",
    "DatasetSummary": "hpc.data.summary",
    "Datasink": "hpc.data.datasource",
    "Datasource": "hpc.data.datasource",
    "ExecutionOptions": "hpc.data.options",
    "ExecutionResources": "hpc.data.options",
    "FileShuffleConfig": "hpc.data.options",
    "MixStoppingCondition": "hpc.data.options",
    "NodeIdStr": "hpc.data.options",
    "Preprocessor": "hpc.data.preprocessor",
    "RandomSeedConfig": "hpc.data.options",
    "ReadTask": "hpc.data.datasource",
    "RowBasedFileDatasink": "hpc.data.datasource",
    "SaveMode": "hpc.data.options",
    "Schema": "hpc.data.block.schema",
    "SinkMode": "hpc.data.options",
    "TaskPoolStrategy": "hpc.data.compute",
    "from_arrow": "hpc.data.io.read_api",
    "from_arrow_refs": "hpc.data.io.read_api",
    "from_blocks": "hpc.data.io.read_api",
    "from_daft": "hpc.data.io.read_api",
    "from_dask": "hpc.data.io.read_api",
    "from_huggingface": "hpc.data.io.read_api",
    "from_items": "hpc.data.io.read_api",
    "from_modin": "hpc.data.io.read_api",
    "from_numpy": "hpc.data.io.read_api",
    "from_numpy_refs": "hpc.data.io.read_api",
    "from_pandas": "hpc.data.io.read_api",
    "from_pandas_refs": "hpc.data.io.read_api",
    "from_spark": "hpc.data.io.read_api",
    "from_tf": "hpc.data.io.read_api",
    "from_torch": "hpc.data.io.read_api",
    "range": "hpc.data.io.read_api",
    "range_tensor": "hpc.data.io.read_api",
    "read_audio": "hpc.data.io.read_api",
    "read_avro": "hpc.data.io.read_api",
    "read_binary_files": "hpc.data.io.read_api",
    "read_csv": "hpc.data.io.read_api",
    "read_datasource": "hpc.data.io.read_api",
    "read_delta": "hpc.data.io.read_api",
    "read_hdf5": "hpc.data.io.read_api",
    "read_iceberg": "hpc.data.io.read_api",
    "read_images": "hpc.data.io.read_api",
    "read_json": "hpc.data.io.read_api",
    "read_lance": "hpc.data.io.read_api",
    "read_mcap": "hpc.data.io.read_api",
    "read_netcdf": "hpc.data.io.read_api",
    "read_numpy": "hpc.data.io.read_api",
    "read_orc": "hpc.data.io.read_api",
    "read_parquet": "hpc.data.io.read_api",
    "read_sql": "hpc.data.io.read_api",
    "read_text": "hpc.data.io.read_api",
    "read_tfrecords": "hpc.data.io.read_api",
    "read_videos": "hpc.data.io.read_api",
    "read_webdataset": "hpc.data.io.read_api",
    "read_zarr": "hpc.data.io.read_api",
}
#: Modules that users name by this package without importing them.
_MODULES = frozenset(
    (
        "aggregate", "collate_fn", "context", "dataset", "datasource", "datatype", "expressions", "iterator",
        "preprocessor", "preprocessors",
    )
)  # fmt: skip

__all__ = sorted(_HOME)

_lazy = LazyNames(__name__, _HOME, _MODULES)


def __getattr__(name: str) -> Any:
    return _lazy.get(name)


def __dir__() -> list[str]:
    return _lazy.all()
