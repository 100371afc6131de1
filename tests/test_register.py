"""The register: filing, finding, suggesting, checking against signatures."""

from typing import Literal

import pytest

from dao.config.signature import check_kwargs
from dao.errors import ConfigError
from dao.register import Register


def make():
    register = Register("loss", context=("num_classes",))

    @register.register("Focal", "focal")
    class Focal:
        def __init__(self, num_classes: int, gamma: float = 2.0, mode: Literal["a", "b"] | None = None):
            self.num_classes, self.gamma, self.mode = num_classes, gamma, mode

    return register, Focal


def test_build_hands_over_context_and_kwargs():
    register, focal = make()
    built = register.build({"type": "focal", "kwargs": {"gamma": 1}}, num_classes=7, unrelated=3)
    assert isinstance(built, focal) and (built.num_classes, built.gamma) == (7, 1)


def test_config_wins_over_context():
    register, _ = make()
    assert register.build({"type": "Focal", "kwargs": {"num_classes": 3}}, num_classes=7).num_classes == 3


def test_unknown_name_suggests_and_names_the_place():
    register, _ = make()
    with pytest.raises(ConfigError, match=r"loss\.type\s+'Focl' is not a loss\. Nearest: Focal"):
        register.build({"type": "Focl"}, "loss")


def test_wrong_keyword_lists_the_signature_without_context():
    register, _ = make()
    with pytest.raises(
        ConfigError,
        match=r"loss\.kwargs\.gama\s+Focal takes no 'gama'\. Nearest: gamma\. It takes: gamma=2\.0, mode=None",
    ):
        register.build({"type": "Focal", "kwargs": {"gama": 1.5}}, "loss")


def test_same_name_twice_names_both_modules():
    register, _ = make()
    with pytest.raises(ValueError, match="'focal' is registered twice: in .* and in "):
        register.register("focal")(lambda: None)


def test_registering_the_same_object_again_is_no_error():
    register, focal = make()
    register.register("Focal")(focal)


def test_errors_inside_a_component_pass_untouched():
    register = Register("loss")

    @register.register()
    def broken():
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        register.build({"type": "broken"})


def component(a: int, b: float = 1, c: tuple[int, int] = (1, 2), d: Literal["x", "y"] | None = None, e: list[str] = ()):
    """Something to check against."""


@pytest.mark.parametrize(
    ("kwargs", "places"),
    [
        ({"a": 1, "b": 2, "c": [3, 4], "d": None, "e": ["t"]}, []),
        ({}, ["k.a"]),
        ({"a": "1"}, ["k.a"]),
        ({"a": True}, ["k.a"]),
        ({"a": 1.5}, ["k.a"]),
        ({"a": 1, "b": "2"}, ["k.b"]),
        ({"a": 1, "c": [1]}, ["k.c"]),
        ({"a": 1, "c": [1, "2"]}, ["k.c"]),
        ({"a": 1, "d": "z", "e": "t", "f": 0}, ["k.f", "k.d", "k.e"]),
    ],
)
def test_check_kwargs_by_annotations(kwargs, places):
    assert [p.where for p in check_kwargs(component, kwargs, "k")] == places
