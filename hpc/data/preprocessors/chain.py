"""A chain of preprocessors, and transforms of images by torchvision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hpc.data.preprocessor import Preprocessor, outputs


class Chain(Preprocessor):
    """Several preprocessors, one after the other: each is fitted to what those before it give."""

    def __init__(self, *preprocessors: Preprocessor) -> None:
        self.preprocessors = preprocessors

    def __repr__(self) -> str:
        return f"Chain({', '.join(map(repr, self.preprocessors))})"

    def fit_status(self) -> Preprocessor.FitStatus:
        found = [one.fit_status() for one in self.preprocessors]
        fittable = [status for status in found if status is not self.FitStatus.NOT_FITTABLE]
        if not fittable:
            return self.FitStatus.NOT_FITTABLE
        fitted = [status for status in fittable if status is self.FitStatus.FITTED]
        if len(fitted) == len(fittable):
            return self.FitStatus.FITTED
        return self.FitStatus.PARTIALLY_FITTED if fitted else self.FitStatus.NOT_FITTED

    def get_input_columns(self) -> list[str]:
        """The columns that some preprocessor reads, and none before it writes."""
        read: dict[str, None] = {}
        written: set[str] = set()
        for one in self.preprocessors:
            read.update(dict.fromkeys(name for name in one.get_input_columns() if name not in written))
            written.update(one.get_output_columns())
        return list(read)

    def get_output_columns(self) -> list[str]:
        """The columns that the preprocessors write."""
        return list(dict.fromkeys(name for one in self.preprocessors for name in one.get_output_columns()))

    def _fit(self, ds: Any) -> None:
        for one in self.preprocessors[:-1]:
            ds = one.fit_transform(ds)
        self.preprocessors[-1].fit(ds)

    def fit_transform(self, ds: Any, **how: Any) -> Any:
        """The dataset, transformed by each after a fit to what those before it give."""
        for one in self.preprocessors:
            ds = one.fit_transform(ds, **how)
        return ds

    def transform(self, ds: Any, **how: Any) -> Any:
        """The dataset with all transformations on top. Raises PreprocessorNotFittedException before `fit`."""
        self._check_fitted("transform")
        for one in self.preprocessors:
            ds = one.transform(ds, **how)
        return ds

    def transform_batch(self, data: Any) -> Any:
        """A batch, transformed by all."""
        self._check_fitted("transform_batch")
        for one in self.preprocessors:
            data = one.transform_batch(data)
        return data


class TorchVisionPreprocessor(Preprocessor):
    """Each image of a column (or each batch of them, with ``batched``) by a transform of torchvision. Needs torch.

    transform: takes an array (or a tensor), and gives a tensor. Images of one batch may differ in shape."""

    _is_fittable = False
    _shown = ("columns", "output_columns", "transform")

    def __init__(
        self,
        columns: list[str],
        transform: Callable[[Any], Any],
        output_columns: list[str] | None = None,
        batched: bool = False,
    ) -> None:
        self.columns = list(columns)
        self.output_columns = outputs(columns, output_columns)
        self._transform, self._batched = transform, batched

    @property
    def transform_fn(self) -> Callable[[Any], Any]:
        """The transform."""
        return self._transform

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(columns={self.columns}, output_columns={self.output_columns}, "
            f"transform={self._transform!r})"
        )

    def _transform_numpy(self, np_data: dict[str, Any]) -> dict[str, Any]:
        result = dict(np_data)
        for column, output in zip(self.columns, self.output_columns):
            if column not in np_data:
                raise ValueError(f"there is no column {column!r}: the columns are {list(np_data)}")
            images = np_data[column]
            if self._batched:
                result[output] = _array(self._transform(images))
                continue
            found = [_array(self._transform(image)) for image in images]
            same = len({image.shape for image in found}) <= 1
            result[output] = np.stack(found) if found and same else found
        return result


def _array(value: Any) -> np.ndarray:
    import torch

    if not isinstance(value, torch.Tensor):
        raise ValueError(f"the transform must give a torch.Tensor, and gave a {type(value).__name__}")
    array: np.ndarray = value.detach().cpu().numpy()
    return array
