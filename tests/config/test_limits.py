from __future__ import annotations

import os

import pytest

from dao.config import limits
from dao.config.schema import json_schema, validate
from dao.images.files import MAX_BYTES_VARIABLE, max_bytes
from dao.images.image_io import MAX_PIXELS_VARIABLE, max_pixels
from dao.register import import_all_modules_for_register


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in (MAX_PIXELS_VARIABLE, MAX_BYTES_VARIABLE):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"max_pixels": 0}, "limits.max_pixels must be at least 1, got 0"),
        ({"max_pixel": 5}, "max_pixel"),
        ({"max_bytes": "much"}, "limits.max_bytes"),
        ([], "limits"),
        ({"max_pixels": 10**9}, ""),
    ],
)
def test_limits_of_a_config_are_checked(tiny_config, section, said):
    import_all_modules_for_register()
    problems = [f"{p.where} {p.what}" for p in validate({**tiny_config, "limits": section})]
    assert (len(problems) == 1 and said in problems[0]) if said else problems == []
    assert {"max_pixels", "max_bytes"} <= json_schema()["properties"]["limits"]["properties"].keys()


def test_every_process_of_a_run_obeys_them_and_without_a_section_the_environment_holds():
    assert (max_pixels(), max_bytes()) == (2**28, 2**30)
    limits.apply({"max_pixels": 77})
    assert (max_pixels(), max_bytes()) == (77, 2**30)
    assert os.environ[MAX_PIXELS_VARIABLE] == "77"  # what spawned loader processes inherit
    limits.apply(None)
    assert max_pixels() == 77
