"""Variables of Ray's: read under both names, checked, or named with the reason why they have no effect."""

from fnmatch import fnmatchcase

import pytest

from hpc.api import environment
from hpc.core.node.rundir import choose_base
from hpc.core.variables import (
    AUTO_CONNECT,
    NAMESPACE,
    NOT_TAKEN,
    TMPDIR,
    UNHANDLED,
    VARIABLES,
    named,
    switch,
    text,
    without_effect,
)  # fmt: skip
from hpc.host.find import bases


@pytest.mark.parametrize("variable", VARIABLES, ids=lambda variable: variable.name)
def test_ours_counts_before_rays_and_an_empty_one_is_none(variable):
    assert variable.name.startswith("HPC_") and variable.ray.startswith("RAY_")
    assert text(variable, {}) == text(variable, {variable.ray: ""}) == ""
    assert text(variable, {variable.ray: "a"}) == "a" and named(variable, {variable.ray: "a"}) == variable.ray
    assert text(variable, {variable.ray: "a", variable.name: "b"}) == "b"
    assert named(variable, {variable.ray: "a", variable.name: "b"}) == named(variable, {}) == variable.name


def test_a_switch_is_yes_or_no_and_says_what_it_takes():
    assert switch(AUTO_CONNECT, True, {}) and not switch(AUTO_CONNECT, False, {})
    for on, off in (("1", "0"), ("true", "False"), ("YES", "no"), ("on", "Off")):
        assert switch(AUTO_CONNECT, False, {AUTO_CONNECT.ray: on})
        assert not switch(AUTO_CONNECT, True, {AUTO_CONNECT.name: off})
    with pytest.raises(ValueError, match="RAY_ENABLE_AUTO_CONNECT is 'maybe'; it takes 1 or 0"):
        switch(AUTO_CONNECT, True, {"RAY_ENABLE_AUTO_CONNECT": "maybe"})


def test_those_without_effect_are_named_with_the_reason_and_others_are_left_alone():
    environ = {
        "RAY_USE_TLS": "1", "RAY_max_direct_call_object_size": "1", "RAY_OF_LIGHT": "1", "RAY_NAMESPACE": "a",
        "RAY_memory_usage_threshold": "0.5", "HOME": "/",
    }  # fmt: skip
    found = without_effect(environ, environment.NUMBERS_OF_RAY)
    assert found == {
        "RAY_USE_TLS": NOT_TAKEN["RAY_USE_TLS"], "RAY_max_direct_call_object_size": NOT_TAKEN["RAY_[a-z]*"],
    }  # fmt: skip


def test_none_is_both_taken_and_not():
    exact = {pattern for pattern in NOT_TAKEN if "*" not in pattern}
    assert not exact & {variable.ray for variable in VARIABLES}
    patterns = list(NOT_TAKEN)
    for at, pattern in enumerate(patterns):
        assert not any(fnmatchcase(pattern, earlier) for earlier in patterns[:at]), pattern


def test_a_warning_lists_them(monkeypatch):
    monkeypatch.setenv("RAY_USE_TLS", "1")
    with pytest.warns(UserWarning, match="RAY_USE_TLS: sessions have keys"):
        environment.tell_without_effect()


def test_rays_directory_is_that_of_the_nodes(tmp_path):
    short = "/tmp"
    assert choose_base("abc", 1, None, {"RAY_TMPDIR": short, "TMPDIR": "/var/tmp"}) == short
    assert choose_base("abc", 1, None, {"RAY_TMPDIR": "/nowhere", TMPDIR.name: short}) == short
    assert bases({"RAY_TMPDIR": "/a", "TMPDIR": "/b"}) == ["/a"]


def test_a_hook_that_is_none_is_an_error_that_names_it(monkeypatch):
    wrongs = {"nowhere.function": ModuleNotFoundError, "os.nothing": AttributeError, "os": ValueError}
    for wrong, kind in wrongs.items():
        monkeypatch.setenv("RAY_RUNTIME_ENV_HOOK", wrong)
        with pytest.raises(kind, match=f"RAY_RUNTIME_ENV_HOOK is '{wrong}', not module.function"):
            environment.hooked(None)
    assert NAMESPACE.ray == "RAY_NAMESPACE" and UNHANDLED.ray == "RAY_IGNORE_UNHANDLED_ERRORS"
