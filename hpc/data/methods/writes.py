"""Methods that write a dataset."""

from __future__ import annotations

from typing import Any

from hpc.data import facts
from hpc.data.io import write_api
from hpc.data.methods import staging
from hpc.data.plan import nodes
from hpc.data.planned import Planned


def write_to(
    self: Planned, sink: Any, *, ray_remote_args: dict[str, Any] | None = None, concurrency: int | None = None
) -> None:
    """All rows go to a `hpc.data.io.sink.Sink`. It runs. What fails is told to the sink, and raised."""
    if not sink.begin(facts.schema_of(self.plan)):
        return
    options = staging.options(concurrency, remote=ray_remote_args)
    try:
        sink.complete(list(self.tables(nodes.Write(self.plan, sink, options))))
    except BaseException as error:
        sink.failed(error)
        raise


write_parquet = write_api.write_parquet
write_csv = write_api.write_csv
write_json = write_api.write_json
write_orc = write_api.write_orc
write_numpy = write_api.write_numpy
write_images = write_api.write_images
write_tfrecords = write_api.write_tfrecords
write_webdataset = write_api.write_webdataset
write_sql = write_api.write_sql
write_datasink = write_api.write_datasink
write_lance = write_api.write_lance
write_delta = write_api.write_delta
write_iceberg = write_api.write_iceberg
