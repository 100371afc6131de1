"""What eval, demo and export share."""

import pytest

from dao.trainers.answering import section_name


@pytest.mark.parametrize(
    ("kwargs", "name"),
    [
        ({"split": "val"}, "val"),
        ({"csv_file": "lists/line3.csv"}, "line3"),
        ({}, "set"),
        ({"split": "../../val"}, "_.._val"),
        ({"split": ".."}, "set"),
        ({"split": "line3\\val"}, "line3_val"),
    ],
)
def test_a_set_of_pictures_is_called_by_one_folder_name(kwargs, name):
    assert section_name({"kwargs": kwargs}) == name
