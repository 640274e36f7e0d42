"""Batches as arrays of JAX: shared out over devices, padded, of dtypes, made by collate functions."""
# needs: pyarrow, pandas, jax

import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import numpy as np

import hpc as ray
from hpc.data.collate_fn import ArrowBatchCollateFn, NumpyBatchCollateFn, PandasBatchCollateFn

ray.init(num_cpus=2)
ray.data.DataContext.get_current().execution_options.preserve_order = True


def show(what, call):
    try:
        print(what, call())
    except Exception as error:
        print(what, type(error).__name__)


ds = ray.data.range(10, override_num_blocks=2)


def one(array):
    shards = sorted({shard.data.shape for shard in array.addressable_shards})
    return array.shape, str(array.dtype), np.asarray(array).tolist(), len(array.sharding.device_set), shards


def look(data=ds, **how):
    found = data.iter_jax_batches(**how)
    return [{k: one(v) for k, v in batch.items()} if isinstance(batch, dict) else one(batch) for batch in found]


class Table(ArrowBatchCollateFn):
    def __call__(self, batch):
        return batch.column("id").to_numpy()


class Frame(PandasBatchCollateFn):
    def __call__(self, batch):
        return {"a": batch["id"].to_numpy() * 2}


class Arrays(NumpyBatchCollateFn):
    def __call__(self, batch):
        return {"a": batch["id"] * 2.5}


show("the last dropped:", lambda: look(batch_size=4, drop_last=True))
show("the last one is odd:", lambda: look(batch_size=4))
show("a size that devices cannot share:", lambda: look(batch_size=6))
show("size 0:", lambda: look(batch_size=0))
show("padded:", lambda: look(batch_size=8, paddings=-1))
show("padded by name:", lambda: look(batch_size=8, paddings={"id": 7}))
show("padded by another name:", lambda: look(batch_size=8, paddings={"x": 7}))
show("dtype:", lambda: look(batch_size=8, paddings=0, dtypes="float32"))
show("dtype by name:", lambda: look(batch_size=8, paddings=0, dtypes={"id": jax.numpy.bfloat16}))
show("dtype by another name:", lambda: look(batch_size=8, paddings=0, dtypes={"z": "float32"}))
for collate in (Table, Frame, Arrays):
    show(f"collated, {collate.__name__}:", lambda: look(batch_size=8, drop_last=True, collate_fn=collate()))
show("collated and padded:", lambda: look(batch_size=8, paddings=1, collate_fn=Table(), dtypes="float32"))
show("by one name:", lambda: look(batch_size=8, paddings={"q": 1}, collate_fn=Table(), dtypes={"q": "float32"}))
show("collated by a function:", lambda: look(batch_size=8, drop_last=True, collate_fn=lambda batch: batch))
show("synchronized:", lambda: look(batch_size=8, drop_last=True, synchronize_batches=True))
show("of tensors:", lambda: look(ray.data.from_numpy(np.ones((4, 1, 2))), batch_size=4))

show("the default size:", lambda: look(ray.data.range(8), paddings=0)[0]["id"][0])
