"""The default modules of SAC and CQL: an actor, one Q-function or two, and their targets."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch

from hpc.rllib.core.columns import Columns
from hpc.rllib.core.learner.utils import make_target_network
from hpc.rllib.core.masks import ACTION_MASK, NEXT_ACTION_MASK, mask_logits
from hpc.rllib.core.models.base import ENCODER_OUT
from hpc.rllib.core.models.catalog import Catalog
from hpc.rllib.core.models.configs import MLPEncoderConfig, MultiStreamEncoderConfig
from hpc.rllib.core.rl_module.apis.inference_only_api import InferenceOnlyAPI
from hpc.rllib.core.rl_module.apis.q_net_api import QNetAPI
from hpc.rllib.core.rl_module.apis.target_network_api import TargetNetworkAPI
from hpc.rllib.core.rl_module.rl_module import RLModule
from hpc.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule

ACTION_DIST_INPUTS_NEXT = "action_dist_inputs_next"
ACTION_LOG_PROBS = "action_log_probs"
ACTION_LOG_PROBS_NEXT = "action_log_probs_next"
ACTION_PROBS = "action_probs"
ACTION_PROBS_NEXT = "action_probs_next"
LOGP_NEXT_RESAMPLED = "logp_next_resampled"
LOGP_RESAMPLED = "logp_resampled"
QF_PREDS = "qf_preds"
QF_TARGET_NEXT = "q_target_next"
QF_TWIN_PREDS = "qf_twin_preds"


class SACCatalog(Catalog):
    """Chooses the actor's encoder and head, and the Q-functions' encoder and head."""

    def __init__(self, observation_space: Any, action_space: Any, model_config_dict: Any) -> None:
        super().__init__(observation_space, action_space, model_config_dict)
        self.discrete = isinstance(action_space, gym.spaces.Discrete)
        if not self.discrete and not isinstance(action_space, gym.spaces.Box):
            raise ValueError(f"SAC's actions are of a Box or Discrete, not of {action_space}")
        self.pi_and_qf_head_hiddens = self._model_config_dict["head_fcnet_hiddens"]
        self.pi_and_qf_head_activation = self._model_config_dict["head_fcnet_activation"]
        self.pi_head_config: Any = None
        self.qf_head_config = self.head(int(action_space.n) if self.discrete else 1)

    def build_qf_encoder(self, framework: str = "torch") -> Any:
        """The Q-functions' encoder: of observations and actions, or of observations for discrete actions."""
        if self.discrete:
            return self.build_encoder(framework=framework)
        config = self._model_config_dict
        self.qf_action_encoder_config = MLPEncoderConfig(
            input_dims=self.action_space.shape,
            hidden_layer_dims=config["fcnet_hiddens"][:-1],
            hidden_layer_activation=config["fcnet_activation"],
            output_layer_dim=self.latent_dims[0],
            output_layer_activation=config["fcnet_activation"],
        )
        settings: dict[str, Any] = {}
        for layer in ("hidden_layer", "output_layer"):
            for ours, theirs in (("weights", "kernel"), ("bias", "bias")):
                settings[f"{layer}_{ours}_initializer"] = config[f"fusionnet_{theirs}_initializer"]
                settings[f"{layer}_{ours}_initializer_config"] = config[f"fusionnet_{theirs}_initializer_kwargs"]
        self.qf_encoder_config = MultiStreamEncoderConfig(
            base_encoder_configs={Columns.OBS: self._encoder_config, Columns.ACTIONS: self.qf_action_encoder_config},
            hidden_layer_dims=config["fusionnet_hiddens"],
            hidden_layer_activation=config["fusionnet_activation"],
            output_layer_dim=self.latent_dims[0],
            output_layer_activation=config["fusionnet_activation"],
            **settings,
        )
        return self.qf_encoder_config.build(framework=framework)

    def build_pi_head(self, framework: str = "torch") -> Any:
        """The actor's head."""
        self.pi_head_config = self.policy_head()
        return self.pi_head_config.build(framework=framework)

    def build_qf_head(self, framework: str = "torch") -> Any:
        """A Q-function's head."""
        return self.qf_head_config.build(framework=framework)

    def get_action_dist_cls(self, framework: str = "torch") -> Any:
        from hpc.rllib.core.distribution.torch.torch_distribution import TorchCategorical, TorchSquashedGaussian

        return TorchCategorical if isinstance(self.action_space, gym.spaces.Discrete) else TorchSquashedGaussian


class DefaultSACRLModule(RLModule, InferenceOnlyAPI, TargetNetworkAPI, QNetAPI):
    """Actor, Q-functions and targets, whatever framework computes them."""

    def setup(self) -> None:
        self.twin_q = bool(self.model_config.get("twin_q", True))
        self.pi_encoder = self.catalog.build_encoder(framework=self.framework)
        self.pi = self.catalog.build_pi_head(framework=self.framework)
        if not self.inference_only:
            self.qf_encoder = self.catalog.build_qf_encoder(framework=self.framework)
            self.qf = self.catalog.build_qf_head(framework=self.framework)
            if self.twin_q:
                self.qf_twin_encoder = self.catalog.build_qf_encoder(framework=self.framework)
                self.qf_twin = self.catalog.build_qf_head(framework=self.framework)

    def make_target_networks(self) -> None:
        self.target_qf_encoder = make_target_network(self.qf_encoder)
        self.target_qf = make_target_network(self.qf)
        if self.twin_q:
            self.target_qf_twin_encoder = make_target_network(self.qf_twin_encoder)
            self.target_qf_twin = make_target_network(self.qf_twin)

    def get_non_inference_attributes(self) -> list[str]:
        names = ["qf", "target_qf", "qf_encoder", "target_qf_encoder"]
        twins = ["qf_twin", "target_qf_twin", "qf_twin_encoder", "target_qf_twin_encoder"]
        return names + twins if self.twin_q else names

    def get_target_network_pairs(self) -> list[tuple[Any, Any]]:
        pairs = [(self.qf_encoder, self.target_qf_encoder), (self.qf, self.target_qf)]
        if self.twin_q:
            pairs += [(self.qf_twin_encoder, self.target_qf_twin_encoder), (self.qf_twin, self.target_qf_twin)]
        return pairs


class DefaultSACTorchRLModule(TorchRLModule, DefaultSACRLModule):
    """SAC's actor and Q-functions in torch."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["catalog_class"] = kwargs.get("catalog_class") or SACCatalog
        super().__init__(*args, **kwargs)

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {Columns.ACTION_DIST_INPUTS: self._policy(batch[Columns.OBS], batch.get(ACTION_MASK))}

    def _policy(self, obs: Any, mask: Any = None) -> Any:
        return mask_logits(self.pi(self.pi_encoder({Columns.OBS: obs})[ENCODER_OUT]), mask)

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        discrete = isinstance(self.action_space, gym.spaces.Discrete)
        return self._forward_train_discrete(batch) if discrete else self._forward_train_continuous(batch)

    def _forward_train_discrete(self, batch: dict[str, Any]) -> dict[str, Any]:
        now, later = {Columns.OBS: batch[Columns.OBS]}, {Columns.OBS: batch[Columns.NEXT_OBS]}
        log_probs = self._policy(batch[Columns.OBS], batch.get(ACTION_MASK)).log_softmax(dim=-1)
        log_probs_next = self._policy(batch[Columns.NEXT_OBS], batch.get(NEXT_ACTION_MASK)).log_softmax(dim=-1)
        out = {
            ACTION_PROBS: log_probs.exp(),
            ACTION_LOG_PROBS: log_probs,
            ACTION_PROBS_NEXT: log_probs_next.exp(),
            ACTION_LOG_PROBS_NEXT: log_probs_next,
            QF_PREDS: self._qf_forward_train_helper(now, self.qf_encoder, self.qf, squeeze=False),
            QF_TARGET_NEXT: self.forward_target(later, squeeze=False),
        }
        if self.twin_q:
            out[QF_TWIN_PREDS] = self._qf_forward_train_helper(now, self.qf_twin_encoder, self.qf_twin, squeeze=False)
        return out

    def _forward_train_continuous(self, batch: dict[str, Any]) -> dict[str, Any]:
        obs, next_obs = batch[Columns.OBS], batch[Columns.NEXT_OBS]
        taken = {Columns.OBS: obs, Columns.ACTIONS: batch[Columns.ACTIONS]}
        dist_cls = self.get_train_action_dist_cls()
        inputs = self._policy(obs)
        actions, logp = dist_cls.from_logits(inputs).rsample_and_logp()
        with torch.no_grad():
            inputs_next = self._policy(next_obs)
            actions_next, logp_next = dist_cls.from_logits(inputs_next).sample_and_logp()
            target = self.forward_target({Columns.OBS: next_obs, Columns.ACTIONS: actions_next})
        out = {
            QF_PREDS: self._qf_forward_train_helper(taken, self.qf_encoder, self.qf),
            Columns.ACTION_DIST_INPUTS: inputs,
            ACTION_DIST_INPUTS_NEXT: inputs_next,
            LOGP_RESAMPLED: logp,
            LOGP_NEXT_RESAMPLED: logp_next,
            "q_curr": self._q_of_policy({Columns.OBS: obs, Columns.ACTIONS: actions}),
            QF_TARGET_NEXT: target,
        }
        if self.twin_q:
            out[QF_TWIN_PREDS] = self._qf_forward_train_helper(taken, self.qf_twin_encoder, self.qf_twin)
        return out

    def _q_of_policy(self, batch: dict[str, Any]) -> Any:
        """Q-values of the policy's actions; gradients go to the actions, not to the Q-functions."""
        parameters = [p for net in self._q_networks() for p in net.parameters()]
        for parameter in parameters:
            parameter.requires_grad_(False)
        values = self.compute_q_values(batch)
        for parameter in parameters:
            parameter.requires_grad_(True)
        return values

    def _q_networks(self) -> list[Any]:
        networks = [self.qf_encoder, self.qf]
        return [*networks, self.qf_twin_encoder, self.qf_twin] if self.twin_q else networks

    def forward_target(self, batch: dict[str, Any], squeeze: bool = True) -> Any:
        """The lower Q-value of the two targets."""
        values = self._qf_forward_train_helper(batch, self.target_qf_encoder, self.target_qf, squeeze)
        if not self.twin_q:
            return values
        twin = self._qf_forward_train_helper(batch, self.target_qf_twin_encoder, self.target_qf_twin, squeeze)
        return torch.min(values, twin)

    def compute_q_values(self, batch: dict[str, Any], squeeze: bool = True) -> Any:
        """The lower Q-value of the two Q-functions."""
        values = self._qf_forward_train_helper(batch, self.qf_encoder, self.qf, squeeze)
        if not self.twin_q:
            return values
        return torch.min(values, self._qf_forward_train_helper(batch, self.qf_twin_encoder, self.qf_twin, squeeze))

    def _qf_forward_train_helper(self, batch: dict[str, Any], encoder: Any, head: Any, squeeze: bool = True) -> Any:
        values = head(encoder(batch)[ENCODER_OUT])
        return values.squeeze(-1) if squeeze else values

    def acting_networks(self) -> dict[str, Any]:
        """The networks of acting, for an actor that computes them without torch: lists in the order of their use."""
        return {"policy": [self.pi_encoder, self.pi]}
