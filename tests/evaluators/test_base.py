import pytest

from dao.evaluators.base import Evaluator


def test_an_evaluator_without_its_methods_cannot_be_made():
    class Half(Evaluator):
        def reset(self):
            """Nothing to forget."""

    with pytest.raises(TypeError, match="compute"):
        Half(["a"])
