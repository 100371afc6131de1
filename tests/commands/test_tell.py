"""What --list prints, and what happens when its reader leaves."""

import os
import re
import sys
from pathlib import Path

import pytest

from dao.commands import tell
from dao.files.pipes import CLOSED, until_closed
from dao.register import Registers


def test_the_list_says_in_a_sentence_what_each_component_does_and_what_it_takes():
    listing = tell.components("losses")
    assert "  FocalLoss: (1 - p_t)^gamma times the cross entropy\n      gamma=2.0" in listing
    assert max(map(len, listing.splitlines())) <= 120
    for name, register in Registers.all().items():
        ours = [entry for entry in register if register.get(entry).__module__.startswith("dao.")]
        silent = [entry for entry in ours if not tell.first_words(register.get(entry))]
        assert ours and (not silent or name in ("transforms", "optimizers")), silent


def test_the_first_sentence_is_a_components_own():
    class Silent(Exception):
        pass

    def speaks():
        """Of e.g. this, as in Lin et al. 2017: the rest
        is left out. And this.

        And all of that.
        """

    assert tell.first_words(Silent) == ""
    assert tell.first_words(speaks) == "Of e.g. this, as in Lin et al. 2017"


def test_the_notes_list_every_metric_with_its_direction():
    """To mend: python main.py --list metrics, into notes/metrics.md."""
    listed = re.search(
        r"```\n(.*?)```", (Path(__file__).parents[2] / "notes" / "metrics.md").read_text("utf-8"), re.DOTALL
    )
    assert tell.components("metrics").strip() == listed[1].strip()


@pytest.mark.parametrize(
    ("wrong", "right"), [("models", "cls_models"), ("loss", "losses"), ("trasforms", "transforms")]
)
def test_a_misspelt_register_names_the_nearest(wrong, right):
    with pytest.raises(AttributeError, match=rf"there is no Registers\.{wrong}\. Nearest: .*\b{right}"):
        getattr(Registers, wrong)
    assert not hasattr(Registers, wrong)


def test_a_reader_that_leaves_early_causes_no_traceback(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)

        def talk():
            sys.stdout.write("x" * 100)
            return 0

        assert until_closed(talk) == CLOSED
