"""The face of a distribution of actions, whatever computes it."""

from __future__ import annotations

import abc
from typing import Any, TypeVar

D = TypeVar("D", bound="Distribution")


class Distribution(abc.ABC):
    """A batch of distributions, made from what a module returns as ``action_dist_inputs``."""

    @abc.abstractmethod
    def sample(self, *, sample_shape: Any = None, **kwargs: Any) -> Any:
        """Draw without gradients."""

    @abc.abstractmethod
    def rsample(self, *, sample_shape: Any = None, **kwargs: Any) -> Any:
        """Draw such that gradients reach the parameters."""

    @abc.abstractmethod
    def logp(self, value: Any, **kwargs: Any) -> Any:
        """Log probability, or log density, of values; one number per row."""

    @abc.abstractmethod
    def kl(self, other: Any, **kwargs: Any) -> Any:
        """Kullback-Leibler divergence from this one to another of its class; one number per row."""

    @abc.abstractmethod
    def entropy(self, **kwargs: Any) -> Any:
        """Entropy; one number per row."""

    @staticmethod
    @abc.abstractmethod
    def required_input_dim(space: Any, **kwargs: Any) -> int:
        """How many inputs per row a distribution over this action space takes."""

    @classmethod
    def from_logits(cls, logits: Any, **kwargs: Any) -> Any:
        """A distribution of what a module returned."""
        raise NotImplementedError(f"{cls.__name__} does not say how it is made of logits: define from_logits")

    @classmethod
    def get_partial_dist_cls(cls: type[D], **partial_kwargs: Any) -> type[D]:
        """The same class with some arguments of ``from_logits`` and ``required_input_dim`` already given."""
        return _partial(cls, partial_kwargs)

    def to_deterministic(self) -> Any:
        """The distribution that always draws the most likely value."""
        return self


def _partial(parent: Any, given: dict[str, Any]) -> Any:
    def merged(kwargs: dict[str, Any]) -> dict[str, Any]:
        twice = sorted(set(kwargs) & set(given))
        if twice:
            raise ValueError(f"{twice} are already set in {parent.__name__}: leave them out")
        return {**given, **kwargs}

    class Partial(parent):
        partial_of = parent
        partial_kwargs = given

        @classmethod
        def required_input_dim(cls, space: Any, **kwargs: Any) -> int:
            kwargs = merged(kwargs)
            if kwargs.pop("space", space) != space:
                raise ValueError(f"this {parent.__name__} was made for {given['space']}, not for {space}")
            return parent.required_input_dim(space=space, **kwargs)

        @classmethod
        def from_logits(cls, logits: Any, **kwargs: Any) -> Any:
            made = parent.from_logits(logits, **merged(kwargs))
            made.__class__ = cls
            return made

    Partial.__name__ = Partial.__qualname__ = f"{parent.__name__}Partial"
    return Partial
