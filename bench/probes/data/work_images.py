"""4,000 JPEG files of 256 x 256, as tar shards, as single files and in parquet: decoded, made 224 x 224, normalized,
and given to the driver 64 at a time. And the single files once more, decoded by the library."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from libraries import CORES, Parts, library
from PIL import Image

__all__ = ["library"]

SIZES = {"full": 4000, "quick": 400}
SHARDS = 8
BATCH = 64
MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)


def prepare(folder: Path, count: int) -> None:
    if (folder / "done").exists():
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    (folder / "files").mkdir(parents=True, exist_ok=True)
    rng, each = np.random.default_rng(0), count // SHARDS
    smooth = np.linspace(0, 200, 256, dtype=np.float32)
    for shard in range(SHARDS):
        pictures = []
        with tarfile.open(folder / f"shard-{shard}.tar", "w") as archive:
            for number in range(each):
                noise = rng.integers(0, 55, (256, 256, 3))
                out = io.BytesIO()
                Image.fromarray((smooth[:, None, None] + noise).astype(np.uint8)).save(out, "JPEG", quality=85)
                name = f"{shard:02d}{number:05d}.jpg"
                (folder / "files" / name).write_bytes(out.getvalue())
                info = tarfile.TarInfo(name)
                info.size = len(out.getvalue())
                archive.addfile(info, io.BytesIO(out.getvalue()))
                pictures.append(out.getvalue())
        pq.write_table(pa.table({"jpg": pa.array(pictures, pa.binary())}), folder / f"part-{shard}.parquet")
    (folder / "done").touch()


def prepared(image: Image.Image) -> np.ndarray:
    """What a model gets: float32, channels first."""
    pixels = np.asarray(image.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR), np.float32)
    return ((pixels / 255.0 - MEAN) / STD).transpose(2, 0, 1)


def decoded(data: bytes) -> np.ndarray:
    return prepared(Image.open(io.BytesIO(data)))


def of_bytes(batch: dict[str, np.ndarray], column: str) -> dict[str, np.ndarray]:
    return {"image": np.stack([decoded(one) for one in batch[column]])}


def of_arrays(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"image": np.stack([prepared(Image.fromarray(one)) for one in batch["image"]])}


def parts(peer: str, lib: Any, folder: Path, count: int) -> Parts:
    tars = sorted(map(str, folder.glob("*.tar")))
    tables = sorted(map(str, folder.glob("*.parquet")))
    if peer in ("hpc", "ray"):
        import torch  # its second is no part of the work, as for torch itself

        # The function decodes, as everywhere. In "arrays" the library does: that costs two conversions more.
        archives = lib.read_webdataset(tars, decoder=None)
        yield "tar", lambda: all_of(ray_like(archives, of_bytes, "jpg"), count)
        yield "files", lambda: all_of(ray_like(lib.read_binary_files(str(folder / "files")), of_bytes, "bytes"), count)
        yield "parquet", lambda: all_of(ray_like(lib.read_parquet(tables), of_bytes, "jpg"), count)
        yield "arrays", lambda: all_of(ray_like(lib.read_images(str(folder / "files")), of_arrays), count)
    elif peer == "torch":
        loader = lib.utils.data.DataLoader(Files(folder / "files"), batch_size=BATCH, num_workers=CORES)
        yield "files", lambda: all_of(loader, count)
    elif peer == "webdataset":
        import torch

        found = (
            lib.WebDataset(tars, shardshuffle=False, empty_check=False)
            .to_tuple("jpg")
            .map_tuple(decoded)
            .batched(BATCH)
        )
        loader = torch.utils.data.DataLoader(found, batch_size=None, num_workers=CORES)
        yield "tar", lambda: all_of((one[0] for one in loader), count)
    elif peer == "datasets":
        import torch

        rows = lib.load_dataset("parquet", data_files=tables, split="train", cache_dir=str(folder / "cache"))
        rows = rows.with_transform(lambda batch: {"image": [decoded(one) for one in batch["jpg"]]})
        loader = torch.utils.data.DataLoader(rows, batch_size=BATCH, num_workers=CORES)
        yield "parquet", lambda: all_of((one["image"] for one in loader), count)
    elif peer == "daft":

        def frames() -> Iterable[np.ndarray]:
            @lib.func(return_dtype=lib.DataType.tensor(lib.DataType.float32(), (3, 224, 224)))
            def decode(data: bytes) -> np.ndarray:
                return decoded(data)

            for batch in lib.read_parquet(tables).select(decode(lib.col("jpg")).alias("image")).to_arrow_iter():
                yield batch.column(0).to_numpy_ndarray()

        yield "parquet", lambda: all_of(frames(), count)
    else:
        shares = [[one.read_bytes() for one in sorted((folder / "files").iterdir())[n::CORES]] for n in range(CORES)]
        yield "pil", lambda: {"pil_sum": sum(lib.map(bare, shares))}


class Files:
    def __init__(self, folder: Path) -> None:
        self.paths = sorted(map(str, folder.iterdir()))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        with Image.open(self.paths[index]) as image:
            return prepared(image)


def ray_like(source: Any, function: Any, *args: str) -> Iterable[Any]:
    mapped = source.map_batches(function, batch_size=BATCH, fn_args=args)
    return (batch["image"] for batch in mapped.iter_torch_batches(batch_size=BATCH))


def all_of(batches: Iterable[Any], count: int) -> None:
    seen = sum(len(batch) for batch in batches)
    if seen != count:
        raise SystemExit(f"{seen} images came, not {count}")


def bare(pictures: list[bytes]) -> float:
    """The limit: the same batches of bytes in memory, nothing kept."""
    batches = (of_bytes({"jpg": pictures[at : at + BATCH]}, "jpg") for at in range(0, len(pictures), BATCH))
    return sum(float(batch["image"][:, 0, 0, 0].sum()) for batch in batches)
