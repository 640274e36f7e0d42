"""The catalog: which encoder and which distribution suit spaces and a model config. Subclasses add heads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from hpc.rllib.core.models.configs import (
    CNNEncoderConfig,
    FreeLogStdMLPHeadConfig,
    MLPEncoderConfig,
    MLPHeadConfig,
    ModelConfig,
    RecurrentEncoderConfig,
)
from hpc.rllib.core.models.names import get_filter_config
from hpc.rllib.core.rl_module.default_model_config import DefaultModelConfig
from hpc.rllib.utils.trees import leaves, map_tree


class Catalog:
    """Chooses the parts of a default module by its spaces and its model config.

    Override ``_determine_components_hook``, ``_get_encoder_config`` or ``build_encoder`` for parts of your own.
    """

    def __init__(self, observation_space: Any, action_space: Any, model_config_dict: Any) -> None:
        if dataclasses.is_dataclass(model_config_dict) and not isinstance(model_config_dict, type):
            model_config_dict = dataclasses.asdict(model_config_dict)
        self.observation_space = observation_space
        self.action_space = action_space
        self._model_config_dict: dict[str, Any] = {
            **dataclasses.asdict(DefaultModelConfig()),
            **(model_config_dict or {}),
        }
        self._latent_dims: Any = None
        self._determine_components_hook()

    def _determine_components_hook(self) -> None:
        """Set ``_encoder_config``, ``_action_dist_class_fn`` and ``latent_dims``; overrides set others."""
        self._encoder_config = self._get_encoder_config(
            observation_space=self.observation_space,
            action_space=self.action_space,
            model_config_dict=self._model_config_dict,
        )
        self._action_dist_class_fn: Callable[[str], Any] = lambda framework: self._get_dist_cls_from_action_space(
            self.action_space, framework=framework
        )
        self.latent_dims = self._encoder_config.output_dims

    @property
    def latent_dims(self) -> Any:
        """Shape of what the encoder returns, without the batch axis."""
        return self._latent_dims

    @latent_dims.setter
    def latent_dims(self, value: Any) -> None:
        self._latent_dims = value

    def build_encoder(self, framework: str = "torch") -> Any:
        """The encoder of observations."""
        return self._encoder_config.build(framework=framework)

    def get_action_dist_cls(self, framework: str = "torch") -> Any:
        """The class of the distribution of actions."""
        return self._action_dist_class_fn(framework)

    @classmethod
    def _get_encoder_config(
        cls, observation_space: Any, model_config_dict: dict[str, Any], action_space: Any = None
    ) -> ModelConfig:
        if model_config_dict["use_lstm"]:
            return cls._recurrent(observation_space, model_config_dict)
        if isinstance(observation_space, gym.spaces.Box):
            axes = len(observation_space.shape)
            if axes == 1:
                return _dense_encoder(observation_space.shape, model_config_dict)
            if axes == 3:
                return _image_encoder(observation_space.shape, model_config_dict)
        raise ValueError(
            f"there is no default encoder for observations of {observation_space}: it must be a Box of one axis, or of "
            "three (height, width, channels). Add the connector FlattenObservations, or give an RLModule of your own"
        )

    @classmethod
    def _recurrent(cls, observation_space: Any, config: dict[str, Any]) -> RecurrentEncoderConfig:
        return RecurrentEncoderConfig(
            input_dims=observation_space.shape,
            recurrent_layer_type="lstm",
            hidden_dim=config["lstm_cell_size"],
            num_layers=1,
            batch_major=True,
            hidden_weights_initializer=config["lstm_kernel_initializer"],
            hidden_weights_initializer_config=config["lstm_kernel_initializer_kwargs"],
            hidden_bias_initializer=config["lstm_bias_initializer"],
            hidden_bias_initializer_config=config["lstm_bias_initializer_kwargs"],
            tokenizer_config=cls.get_tokenizer_config(observation_space, config),
        )

    @classmethod
    def get_tokenizer_config(cls, observation_space: Any, model_config_dict: dict[str, Any]) -> ModelConfig:
        """The encoder before a recurrent network: that of the same config without one."""
        return cls._get_encoder_config(observation_space, {**model_config_dict, "use_lstm": False})

    @classmethod
    def _get_dist_cls_from_action_space(cls, action_space: Any, *, framework: str | None = None) -> Any:
        return None if framework is None else dist_cls_of(action_space)

    def head(self, output_dim: int, **kwargs: Any) -> MLPHeadConfig:
        """Settings of a head from the encoder's output, with the model config's ``head_fcnet_*``."""
        return MLPHeadConfig(**self._head_settings(output_dim), **kwargs)

    def policy_head(self) -> MLPHeadConfig | FreeLogStdMLPHeadConfig:
        """Settings of the head to the distribution of actions; log standard deviations are bounded."""
        from hpc.rllib.core.distribution.torch.torch_distribution import TorchDiagGaussian

        dist_cls = self.get_action_dist_cls(framework="torch")
        gaussian = issubclass(dist_cls, TorchDiagGaussian)
        free = self._model_config_dict["free_log_std"]
        if free and not gaussian:
            raise ValueError(f"free_log_std is for actions of a diagonal Gaussian, not of {dist_cls.__name__}")
        settings = self._head_settings(dist_cls.required_input_dim(space=self.action_space))
        settings.update(clip_log_std=gaussian, log_std_clip_param=self._model_config_dict["log_std_clip_param"])
        return FreeLogStdMLPHeadConfig(**settings) if free else MLPHeadConfig(**settings)

    def _head_settings(self, output_dim: int) -> dict[str, Any]:
        config = self._model_config_dict
        settings: dict[str, Any] = {
            "input_dims": self.latent_dims,
            "hidden_layer_dims": config["head_fcnet_hiddens"],
            "hidden_layer_activation": config["head_fcnet_activation"],
            "hidden_layer_use_layernorm": config.get("head_fcnet_use_layernorm", False),
            "output_layer_dim": output_dim,
            "output_layer_activation": "linear",
        }
        for layer in ("hidden_layer", "output_layer"):
            settings |= _initializers(config, "head_fcnet", layer)
        return settings


def dist_cls_of(action_space: Any) -> Any:
    """The torch distribution over an action space; its size is ``required_input_dim(action_space)``."""
    from hpc.rllib.core.distribution.torch import torch_distribution as torch_dist

    spaces = gym.spaces
    if isinstance(action_space, spaces.Box):
        if np.issubdtype(action_space.dtype, np.integer):
            raise ValueError("actions of an integer Box are not supported: use MultiDiscrete, or a Box of floats")
        if len(action_space.shape) > 1:
            raise ValueError(
                f"actions have {len(action_space.shape)} axes {action_space.shape}: make it one, or a Tuple of Boxes"
            )
        return torch_dist.TorchDiagGaussian
    if isinstance(action_space, spaces.Discrete):
        return torch_dist.TorchCategorical
    if isinstance(action_space, spaces.MultiDiscrete):
        lens = [int(n) for n in np.ravel(action_space.nvec)]
        return torch_dist.TorchMultiCategorical.get_partial_dist_cls(space=action_space, input_lens=lens)
    if isinstance(action_space, (spaces.Dict, spaces.Tuple)):
        struct = space_struct(action_space)
        children = map_tree(dist_cls_of, struct)
        lens = [int(d.required_input_dim(space=s)) for d, s in zip(leaves(children), leaves(struct))]
        return torch_dist.TorchMultiDistribution.get_partial_dist_cls(
            space=action_space, child_distribution_cls_struct=children, input_lens=lens
        )
    raise NotImplementedError(
        f"there is no default distribution for actions of {action_space}: set action_dist_cls in your RLModule"
    )


def space_struct(space: Any) -> Any:
    """A Dict or Tuple space as dicts and tuples of its simple spaces."""
    if isinstance(space, gym.spaces.Dict):
        return {name: space_struct(part) for name, part in space.spaces.items()}
    if isinstance(space, gym.spaces.Tuple):
        return tuple(space_struct(part) for part in space.spaces)
    return space


def _initializers(config: dict[str, Any], prefix: str, layer: str) -> dict[str, Any]:
    return {
        f"{layer}_weights_initializer": config[f"{prefix}_kernel_initializer"],
        f"{layer}_weights_initializer_config": config[f"{prefix}_kernel_initializer_kwargs"],
        f"{layer}_bias_initializer": config[f"{prefix}_bias_initializer"],
        f"{layer}_bias_initializer_config": config[f"{prefix}_bias_initializer_kwargs"],
    }


def _dense_encoder(shape: tuple[int, ...], config: dict[str, Any]) -> MLPEncoderConfig:
    if not config["fcnet_hiddens"]:
        raise ValueError("fcnet_hiddens needs one layer at least, as [256]")
    layernorm = config.get("fcnet_use_layernorm", False)
    return MLPEncoderConfig(
        input_dims=shape,
        hidden_layer_dims=config["fcnet_hiddens"][:-1],
        hidden_layer_activation=config["fcnet_activation"],
        hidden_layer_use_layernorm=layernorm,
        output_layer_dim=config["fcnet_hiddens"][-1],
        output_layer_activation=config["fcnet_activation"],
        output_layer_use_layernorm=layernorm,
        **_initializers(config, "fcnet", "hidden_layer"),
        **_initializers(config, "fcnet", "output_layer"),
    )


def _image_encoder(shape: tuple[int, ...], config: dict[str, Any]) -> CNNEncoderConfig:
    if not config.get("conv_filters"):
        config["conv_filters"] = get_filter_config(shape)
    return CNNEncoderConfig(
        input_dims=shape,
        cnn_filter_specifiers=config["conv_filters"],
        cnn_activation=config["conv_activation"],
        cnn_kernel_initializer=config["conv_kernel_initializer"],
        cnn_kernel_initializer_config=config["conv_kernel_initializer_kwargs"],
        cnn_bias_initializer=config["conv_bias_initializer"],
        cnn_bias_initializer_config=config["conv_bias_initializer_kwargs"],
    )
