"""Configurations of models are checked where they are written down, and say what a deployment needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpc.serve.llm.config import LLMConfig, LLMServingArgs, serving_args
from hpc.serve.llm.models import model_of

TOY = {"model_loading_config": {"model_id": "org/toy.1"}, "llm_engine": "toy"}


def config(**fields: Any) -> LLMConfig:
    return LLMConfig(**{**TOY, **fields})


def test_a_model_has_a_name_and_a_source() -> None:
    one = config()
    assert one.model_id == one.loading.source == "org/toy.1"
    other = config(model_loading_config={"model_id": "a", "model_source": "/b"})
    assert (other.model_id, other.loading.source) == ("a", "/b")


def test_the_default_engine_is_that_of_ray_and_takes_its_devices() -> None:
    one = LLMConfig(model_loading_config={"model_id": "a"}, engine_kwargs={"tensor_parallel_size": 4})
    assert one.engine == "vllm"
    assert one.deployment_options()["ray_actor_options"] == {"num_gpus": 4}


def test_a_deployment_gets_what_was_given() -> None:
    options = config(
        deployment_config={"num_replicas": 2, "ray_actor_options": {"num_cpus": 3}},
        accelerator_type="A100",
        runtime_env={"env_vars": {"A": "1"}},
    ).deployment_options()
    assert options["num_replicas"] == 2
    actor = {"num_cpus": 3, "runtime_env": {"env_vars": {"A": "1"}}, "accelerator_type": "A100", "num_gpus": 1}
    assert options["ray_actor_options"] == actor
    assert "ray_actor_options" not in config().deployment_options()


def test_bundles_are_given_or_made_for_each_worker() -> None:
    each = {"bundle_per_worker": {"GPU": 1}, "strategy": "STRICT_PACK"}
    options = config(placement_group_config=each, engine_kwargs={"tensor_parallel_size": 2}).deployment_options()
    assert options["placement_group_bundles"] == [{"GPU": 1}, {"GPU": 1}]
    assert options["placement_group_strategy"] == "STRICT_PACK"
    assert config(placement_group_config={"bundles": [{"CPU": 1}]}).deployment_options()["placement_group_bundles"] == [
        {"CPU": 1}
    ]
    with pytest.raises(ValueError, match="one of bundles"):
        config(placement_group_config={}).deployment_options()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"llm_engine": "abacus"}, "llm_engine='abacus'"),
        ({"model_loading_config": {"model": "a"}}, "model_loading_config: Object contains unknown field `model`"),
        ({"lora_config": {"dynamic_lora_loading_path": "s3://a"}}, "lora_config is not supported"),
        ({"experimental_configs": {"stream_batching_interval_ms": 50}}, "stream_batching_interval_ms"),
        ({"placement_group_config": {"bundle": {}}}, "'bundle' is none of"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        config(**fields)


def test_models_of_an_application() -> None:
    args = serving_args({"llm_configs": [TOY, config(model_loading_config={"model_id": "b"})]})
    assert [one.model_id for one in args.llm_configs] == ["org/toy.1", "b"]
    assert serving_args(args) is args
    with pytest.raises(ValueError, match="at least one"):
        LLMServingArgs(llm_configs=[])
    with pytest.raises(ValueError, match=r"'org/toy\.1' is there twice"):
        LLMServingArgs(llm_configs=[TOY, TOY])
    with pytest.raises(ValueError, match="unknown field `llm_config`"):
        serving_args({"llm_configs": [TOY], "llm_config": 1})
    with pytest.raises(TypeError, match="int is no LLMConfig"):
        LLMServingArgs(llm_configs=[3])


def test_a_model_from_a_file(tmp_path: Path) -> None:
    pytest.importorskip("yaml", reason="files of YAML need pyyaml")
    file = tmp_path / "model.yaml"
    file.write_text("model_loading_config: {model_id: a}\nllm_engine: toy\nengine_kwargs: {num_blocks: 8}\n")
    assert LLMConfig.from_file(str(file)).engine_kwargs == {"num_blocks": 8}
    with pytest.raises(ValueError, match="there is no file"):
        LLMServingArgs(llm_configs=[str(tmp_path / "none.yaml")])
    file.write_text("llm_engine: toy\n")
    with pytest.raises(ValueError, match=r"model\.yaml: Object missing required field"):
        LLMConfig.from_file(str(file))


def test_arguments_that_an_engine_does_not_have_are_refused() -> None:
    with pytest.raises(ValueError, match="'blocks' is none of num_blocks"):
        model_of(config(engine_kwargs={"blocks": 3}))
    with pytest.raises(ValueError, match="num_blocks"):
        model_of(config(engine_kwargs={"num_blocks": "many"}))
    with pytest.raises(ValueError, match="'gpu' is none of"):
        model_of(config(llm_engine="hf", engine_kwargs={"gpu": 1}))
    with pytest.raises(ValueError, match="'x' is none of"):
        model_of(config(llm_engine="process", engine_kwargs={"x": 1}))
