"""The run's log file."""

from pathlib import Path

import pytest
from loguru import logger

from dao.utils import logger as log


@pytest.fixture
def quiet():
    yield
    log.close_file()
    logger.remove()


def test_what_was_said_before_the_folder_was_known_is_in_the_file(tmp_path, quiet):
    log.to_terminal()
    logger.info("early")
    log.to_file(tmp_path / "log.txt")
    logger.debug("late")
    log.close_file()
    logger.info("after the end")
    text = (tmp_path / "log.txt").read_text()
    assert text.index("early") < text.index("late") and "after the end" not in text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_hides_nothing_from_the_terminal(quiet, capsys):
    log.to_terminal()
    log.to_file(Path("/dev/full"))
    logger.info("still said")
    log.close_file()
    err = capsys.readouterr().err
    assert "still said" in err and "No space left" not in err
