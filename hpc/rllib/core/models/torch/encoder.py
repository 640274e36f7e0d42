"""Encoders of torch: from observations to features."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hpc.rllib.core.columns import Columns
from hpc.rllib.core.models.base import (
    ACTOR,
    CRITIC,
    ENCODER_OUT,
    ActorCriticEncoder,
    Encoder,
    StatefulActorCriticEncoder,
    tokenize,
)
from hpc.rllib.core.models.names import get_activation_fn
from hpc.rllib.core.models.torch.base import TorchModel
from hpc.rllib.core.models.torch.heads import mlp_of
from hpc.rllib.core.models.torch.primitives import TorchCNN, initialize
from hpc.rllib.utils.trees import map_tree


class TorchActorCriticEncoder(TorchModel, ActorCriticEncoder):
    """One encoder for actor and critic, or two."""

    framework = "torch"

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        if config.shared:
            self.encoder = config.base_encoder_config.build(framework="torch")
        else:
            self.actor_encoder = config.base_encoder_config.build(framework="torch")
            self.critic_encoder = None if config.inference_only else config.base_encoder_config.build(framework="torch")

    def _forward(self, inputs: Any, **kwargs: Any) -> dict[str, Any]:
        if self.config.shared:
            encoded = self.encoder(inputs, **kwargs)[ENCODER_OUT]
            return {ENCODER_OUT: {ACTOR: encoded} if self.config.inference_only else {ACTOR: encoded, CRITIC: encoded}}
        out = {ACTOR: self.actor_encoder(inputs, **kwargs)[ENCODER_OUT]}
        if not self.config.inference_only:
            # Acting may have left the critic out of a copy, as the actor-only module of a runner.
            out[CRITIC] = self.critic_encoder(inputs, **kwargs)[ENCODER_OUT]  # type: ignore[misc]
        return {ENCODER_OUT: out}


class TorchStatefulActorCriticEncoder(TorchModel, StatefulActorCriticEncoder):
    """One recurrent encoder for actor and critic, or two with states of their own."""

    framework = "torch"

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        if config.shared:
            self.encoder = config.base_encoder_config.build(framework="torch")
        else:
            self.actor_encoder = config.base_encoder_config.build(framework="torch")
            self.critic_encoder = config.base_encoder_config.build(framework="torch")

    def get_initial_state(self) -> dict[str, Any]:
        if self.config.shared:
            return self.encoder.get_initial_state()
        return {ACTOR: self.actor_encoder.get_initial_state(), CRITIC: self.critic_encoder.get_initial_state()}

    def _forward(self, inputs: Any, **kwargs: Any) -> dict[str, Any]:
        if self.config.shared:
            out = self.encoder(inputs, **kwargs)
            encoded = {ACTOR: out[ENCODER_OUT], CRITIC: out[ENCODER_OUT]}
            return {ENCODER_OUT: encoded, Columns.STATE_OUT: out[Columns.STATE_OUT]}
        state = inputs[Columns.STATE_IN]
        actor = self.actor_encoder({**inputs, Columns.STATE_IN: state[ACTOR]}, **kwargs)
        critic = self.critic_encoder({**inputs, Columns.STATE_IN: state[CRITIC]}, **kwargs)
        return {
            ENCODER_OUT: {ACTOR: actor[ENCODER_OUT], CRITIC: critic[ENCODER_OUT]},
            Columns.STATE_OUT: {ACTOR: actor[Columns.STATE_OUT], CRITIC: critic[Columns.STATE_OUT]},
        }


class TorchMLPEncoder(TorchModel, Encoder):
    """Dense layers over one-dimensional observations."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.net = mlp_of(config)

    def _forward(self, inputs: Any, **kwargs: Any) -> dict[str, Any]:
        return {ENCODER_OUT: self.net(inputs[Columns.OBS].float())}


class TorchCNNEncoder(TorchModel, Encoder):
    """Convolutions over images [B, height, width, channels]."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        cnn = TorchCNN(
            input_dims=config.input_dims,
            cnn_filter_specifiers=config.cnn_filter_specifiers,
            cnn_activation=config.cnn_activation,
            cnn_use_layernorm=config.cnn_use_layernorm,
            cnn_use_bias=config.cnn_use_bias,
            cnn_kernel_initializer=config.cnn_kernel_initializer,
            cnn_kernel_initializer_config=config.cnn_kernel_initializer_config,
            cnn_bias_initializer=config.cnn_bias_initializer,
            cnn_bias_initializer_config=config.cnn_bias_initializer_config,
        )
        self.net = nn.Sequential(cnn, nn.Flatten()) if config.flatten_at_end else nn.Sequential(cnn)

    def _forward(self, inputs: Any, **kwargs: Any) -> dict[str, Any]:
        return {ENCODER_OUT: self.net(inputs[Columns.OBS].float())}


class _TorchRecurrentEncoder(TorchModel, Encoder):
    """Observations [B, T, ...] and states [B, layers, cells], through a tokenizer and a recurrent network."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.tokenizer = config.tokenizer_config.build(framework="torch") if config.tokenizer_config else None
        dims = config.tokenizer_config.output_dims if config.tokenizer_config else config.input_dims
        if dims is None or len(dims) != 1:
            raise ValueError(f"a recurrent network takes one-dimensional features, not {dims}: flatten them")
        self.input_width = dims[0]

    def _build(self, network: Any) -> Any:
        config = self.config
        made = network(
            self.input_width,
            config.hidden_dim,
            config.num_layers or 1,
            batch_first=config.batch_major,
            bias=config.use_bias,
        )
        for layer in range(config.num_layers or 1):
            for end in (f"ih_l{layer}", f"hh_l{layer}"):
                how, kwargs = config.hidden_weights_initializer, config.hidden_weights_initializer_config
                initialize(made, how, kwargs, f"weight_{end}")
                if config.use_bias:
                    how, kwargs = config.hidden_bias_initializer, config.hidden_bias_initializer_config
                    initialize(made, how, kwargs, f"bias_{end}")
        return made

    def _zeros(self) -> Tensor:
        return torch.zeros(self.config.num_layers or 1, self.config.hidden_dim)

    def _features(self, inputs: Any) -> Tensor:
        return inputs[Columns.OBS].float() if self.tokenizer is None else tokenize(self.tokenizer, inputs)

    @staticmethod
    def _layers_first(state: Any) -> Any:
        return map_tree(lambda leaf: leaf.transpose(0, 1).contiguous(), state)


class TorchGRUEncoder(_TorchRecurrentEncoder):
    """A GRU, after another encoder if one is set."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.gru = self._build(nn.GRU)

    def get_initial_state(self) -> dict[str, Any]:
        return {"h": self._zeros()}

    def _forward(self, inputs: Any, **kwargs: Any) -> dict[str, Any]:
        state = self._layers_first(inputs[Columns.STATE_IN])
        out, h = self.gru(self._features(inputs), state["h"])
        return {ENCODER_OUT: out, Columns.STATE_OUT: self._layers_first({"h": h})}


class TorchLSTMEncoder(_TorchRecurrentEncoder):
    """An LSTM, after another encoder if one is set."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.lstm = self._build(nn.LSTM)

    def get_initial_state(self) -> dict[str, Any]:
        return {"h": self._zeros(), "c": self._zeros()}

    def _forward(self, inputs: Any, **kwargs: Any) -> dict[str, Any]:
        state = self._layers_first(inputs[Columns.STATE_IN])
        out, (h, c) = self.lstm(self._features(inputs), (state["h"], state["c"]))
        return {ENCODER_OUT: out, Columns.STATE_OUT: self._layers_first({"h": h, "c": c})}


class TorchMultiStreamEncoder(TorchModel, Encoder):
    """An encoder per column, then dense layers over all features; each layer also sees the encoders' outputs."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        parts = {name: part.build(framework="torch") for name, part in sorted(config.base_encoder_configs.items())}
        self.base_encoders = nn.ModuleDict(parts)
        self.hidden_activation = (get_activation_fn(config.hidden_layer_activation) or nn.Identity)()
        streams, layers, width = config.streams_width, [], 0
        for dim in config.hidden_layer_dims:
            layers.append(self._layer(width + streams, dim, config.hidden_layer_use_bias, "hidden_layer"))
            width = dim
        self.fusion_layers = nn.ModuleList(layers)
        self.output_layer = None
        if config.output_layer_dim is not None:
            self.output_activation = (get_activation_fn(config.output_layer_activation) or nn.Identity)()
            bias = config.output_layer_use_bias
            self.output_layer = self._layer(width + streams, config.output_layer_dim, bias, "output_layer")

    def _layer(self, width: int, dim: int, bias: bool, name: str) -> nn.Linear:
        layer, config = nn.Linear(width, dim, bias=bias), self.config
        for kind, parameter in (("weights", "weight"), ("bias", "bias")):
            how = getattr(config, f"{name}_{kind}_initializer")
            initialize(layer, how, getattr(config, f"{name}_{kind}_initializer_config"), parameter)
        return layer

    def _forward(self, inputs: Any, **kwargs: Any) -> dict[str, Any]:
        encoded = [part({Columns.OBS: inputs[name]})[ENCODER_OUT] for name, part in self.base_encoders.items()]
        streams = torch.cat(encoded, dim=-1)
        out = streams
        for i, layer in enumerate(self.fusion_layers):
            out = self.hidden_activation(layer(streams if i == 0 else torch.cat([out, streams], dim=-1)))
        if self.output_layer is not None:
            joined = torch.cat([out, streams], dim=-1) if len(self.fusion_layers) else streams
            out = self.output_activation(self.output_layer(joined))
        return {ENCODER_OUT: out}
