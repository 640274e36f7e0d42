"""The default module of PPO and IMPALA: an encoder (or two), a policy head, a value head."""

from __future__ import annotations

from typing import Any

from hpc.rllib.core.columns import Columns
from hpc.rllib.core.masks import ACTION_MASK, mask_logits
from hpc.rllib.core.models.base import ACTOR, CRITIC, ENCODER_OUT
from hpc.rllib.core.models.catalog import Catalog
from hpc.rllib.core.models.configs import ActorCriticEncoderConfig, RecurrentEncoderConfig
from hpc.rllib.core.rl_module.apis.inference_only_api import InferenceOnlyAPI
from hpc.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI
from hpc.rllib.core.rl_module.rl_module import RLModule
from hpc.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule


class PPOCatalog(Catalog):
    """Chooses an actor-critic encoder, a policy head and a value head."""

    def __init__(self, observation_space: Any, action_space: Any, model_config_dict: Any) -> None:
        super().__init__(observation_space, action_space, model_config_dict)
        self.actor_critic_encoder_config = ActorCriticEncoderConfig(
            base_encoder_config=self._encoder_config, shared=self._model_config_dict["vf_share_layers"]
        )
        self.pi_and_vf_head_hiddens = self._model_config_dict["head_fcnet_hiddens"]
        self.pi_and_vf_head_activation = self._model_config_dict["head_fcnet_activation"]
        self.pi_head_config: Any = None
        self.vf_head_config = self.head(1)

    def build_actor_critic_encoder(self, framework: str = "torch") -> Any:
        """The encoder of actor and critic."""
        return self.actor_critic_encoder_config.build(framework=framework)

    def build_encoder(self, framework: str = "torch") -> Any:
        raise NotImplementedError("PPO's encoder is one of actor and critic: use build_actor_critic_encoder()")

    def build_pi_head(self, framework: str = "torch") -> Any:
        """The head from the actor's features to the distribution of actions."""
        self.pi_head_config = self.policy_head()
        return self.pi_head_config.build(framework=framework)

    def build_vf_head(self, framework: str = "torch") -> Any:
        """The head from the critic's features to a value."""
        return self.vf_head_config.build(framework=framework)


class DefaultPPORLModule(RLModule, InferenceOnlyAPI, ValueFunctionAPI):
    """Actor and critic, whatever framework computes them."""

    def setup(self) -> None:
        stateful = isinstance(self.catalog.actor_critic_encoder_config.base_encoder_config, RecurrentEncoderConfig)
        if stateful:
            # The critic's state is part of the module's state: a runner needs the critic too.
            self.inference_only = False
        if self.inference_only:
            self.catalog.actor_critic_encoder_config.inference_only = True
        self.encoder = self.catalog.build_actor_critic_encoder(framework=self.framework)
        self.pi = self.catalog.build_pi_head(framework=self.framework)
        self.vf = self.catalog.build_vf_head(framework=self.framework)

    def get_initial_state(self) -> dict[str, Any]:
        return self.encoder.get_initial_state() if hasattr(self.encoder, "get_initial_state") else {}

    def get_non_inference_attributes(self) -> list[str]:
        if self.is_stateful():
            # Runners step the critic's state and value observations: a critic that stays as it began misleads both.
            return []
        shared = self.model_config.get("vf_share_layers", True)
        return ["vf"] if shared else ["vf", "encoder.critic_encoder"]


class DefaultPPOTorchRLModule(TorchRLModule, DefaultPPORLModule):
    """PPO's actor and critic in torch."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["catalog_class"] = kwargs.get("catalog_class") or PPOCatalog
        super().__init__(*args, **kwargs)

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        encoded = self.encoder(batch)
        out = {Columns.ACTION_DIST_INPUTS: self._logits(encoded, batch)}
        if Columns.STATE_OUT in encoded:
            out[Columns.STATE_OUT] = encoded[Columns.STATE_OUT]
        return out

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        encoded = self.encoder(batch)
        out = {
            Columns.EMBEDDINGS: encoded[ENCODER_OUT][CRITIC],
            Columns.ACTION_DIST_INPUTS: self._logits(encoded, batch),
        }
        if Columns.STATE_OUT in encoded:
            out[Columns.STATE_OUT] = encoded[Columns.STATE_OUT]
        return out

    def _logits(self, encoded: dict[str, Any], batch: dict[str, Any]) -> Any:
        return mask_logits(self.pi(encoded[ENCODER_OUT][ACTOR]), batch.get(ACTION_MASK))

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> Any:
        if embeddings is None:
            embeddings = self._critic_features(batch)
        return self.vf(embeddings).squeeze(-1)

    def _critic_features(self, batch: dict[str, Any]) -> Any:
        critic = getattr(self.encoder, "critic_encoder", None)
        if critic is None:
            return self.encoder(batch)[ENCODER_OUT][CRITIC]
        if Columns.STATE_IN in batch:
            batch = {**batch, Columns.STATE_IN: batch[Columns.STATE_IN][CRITIC]}
        return critic(batch)[ENCODER_OUT]

    def acting_networks(self) -> dict[str, Any]:
        """The networks of acting, for an actor that computes them without torch: lists in the order of their use."""
        encoder = self.encoder
        shared = encoder.config.shared
        actor = encoder.encoder if shared else encoder.actor_encoder
        critic = actor if shared else getattr(encoder, "critic_encoder", None)
        networks = {"policy": [actor, self.pi]}
        if critic is not None and hasattr(self, "vf"):
            networks["value"] = [critic, self.vf]
        return networks
