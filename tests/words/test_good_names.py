"""Names of good classes in the languages of factories, and names that only look like them."""

import pytest

from dao.words.good_names import good_names, is_good_name


@pytest.mark.parametrize(
    "name",
    ["OK", "ok", "ＯＫ", "Good", "GOOD_parts", "01_OK", "pass", "合格", "良品", "良", "正常", "gut", "Gut", "i.O.", "i. O.", "IO",
     "bon", "Bueno", "BUONO", "normal", "bom", "dobry", "dobrý", "dobry\u0301", "Хорошо", "ГОДЕН", "양품", "양품", "defect-free",
     "defect_free", "Sans défaut", "İYİ", "v pořádku", "異常なし"],
)  # fmt: skip
def test_a_known_name_means_good_whatever_its_case_width_and_form(name):
    assert is_good_name(name)


@pytest.mark.parametrize(
    "name",
    ["NOK", "NG", "not ok", "not good", "no good", "n.i.O.", "niO", "不合格", "不良", "不良品", "异常", "불량", "schlecht", "défaut",
     "abnormal", "defective", "bad", "mauvais", "негоден", "не годен", "", "_", "1", "okra", "passion"],
)  # fmt: skip
def test_what_only_looks_like_one_does_not(name):
    assert not is_good_name(name)


def test_a_classifier_takes_them_for_its_good_classes():
    from dao.evaluators.classification import ClsEvaluator, good_classes

    assert good_classes(["划痕", "合格", "凹坑"], None, None) == ["合格"]
    assert good_names(["Kratzer", "i.O.", "OK"]) == ["i.O.", "OK"]
    assert ClsEvaluator(["rayure", "bon"]).bad == ["rayure"]
