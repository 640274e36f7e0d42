"""Modules that need less for acting than for training."""

from __future__ import annotations

import abc


class InferenceOnlyAPI(abc.ABC):
    """A module with parts that only its learner needs; env runners hold a copy without them."""

    @abc.abstractmethod
    def get_non_inference_attributes(self) -> list[str]:
        """Names of the attributes that acting does not need, "a.b" for one of an attribute."""
