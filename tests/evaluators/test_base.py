import pytest

from dao.evaluators.base import Evaluator, matches
from dao.register import Registers, import_all_modules_for_register

import_all_modules_for_register()


def test_an_evaluator_without_its_methods_cannot_be_made():
    class Half(Evaluator):
        def reset(self):
            """Nothing to forget."""

    with pytest.raises(TypeError, match="compute"):
        Half(["a"])


# by hand, from what each number means
LOW = {
    "escape_rate", "false_alarm_rate", "at_score/missed", "at_score/false_alarms", "at_score/false_alarms_per_picture",
    "per_class/{}/missed", "per_class/{}/false_alarms", "per_class/{}/false_alarms_per_picture", "defects/false_alarms",
    "defects/false_alarms_per_picture", "per_kind/bad/escape_rate", "factory/balanced_error", "log_loss",
}  # fmt: skip
NEITHER = {
    "pictures", "unlabelled", "per_class/{}/support", "per_class/{}/pixels", "at_score/score", "at_score/boxes",
    "best_f1/score", "per_class/{}/score", "per_class/{}/boxes", "per_class/{}/best_f1_score", "factory/bad_pictures",
    "factory/good_pictures", "picture/f1_max_at", "pixel/regions", "per_kind/bad/pictures", "per_kind/bad/picture/f1_max_at",
    "per_kind/bad/pixel/regions", "factory/undecided_pictures", "verdict_and_region/good_with_region",
    "verdict_and_region/bad_without_region", *(f"defects/threshold_at_false_alarms_per_picture/{x}" for x in (0.02, 0.05, 0.1, 0.5, 1)),
}  # fmt: skip
AWKWARD = ["print_error", "missed", "false_alarms", "loss/score", "ap/score", "escape rate", "*", "a\nb"]


@pytest.mark.parametrize("kind", ["ClsEvaluator", "SegEvaluator", "DetEvaluator", "AnomalyEvaluator"])
def test_every_metric_states_its_direction_whatever_the_classes_are_called(kind):
    settings = {"ClsEvaluator": {"good": ["missed"], "top_k": [3]}, "DetEvaluator": {"extra_iou": [0.33]}}
    evaluator = Registers.evaluators.get(kind)(AWKWARD, **settings.get(kind, {}))
    low = {text.format(name) for text in LOW for name in AWKWARD}
    neither = {text.format(name) for text in NEITHER for name in AWKWARD}
    for metric in evaluator.metric_names():
        expected = "min" if metric in low else None if metric in neither else "max"
        assert evaluator.mode_of(metric) == expected, metric
        forms = [*evaluator.maximised, *evaluator.minimised, *evaluator.descriptive]
        assert any(matches(form, metric) for form in forms), f"{metric} states no direction"


def test_a_subclass_adds_the_direction_of_its_own_metric():
    class Costs(Registers.evaluators.get("ClsEvaluator")):
        minimised = (*Registers.evaluators.get("ClsEvaluator").minimised, "cost/<class>")

    evaluator = Costs(["a", "b"])
    assert evaluator.mode_of("cost/a") == "min" and evaluator.mode_of("top1") == "max"
    assert evaluator.mode_of("price") is None
