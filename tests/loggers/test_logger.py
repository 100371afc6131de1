"""The run's log file."""

import errno
import threading
from pathlib import Path

import pytest
from loguru import logger

from dao.loggers import files
from dao.loggers import logger as log
from dao.loggers.files import TensorBoard


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


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_curves_that_the_disk_refuses_are_told_by_the_run_and_not_by_a_threads_traceback(tmp_path, monkeypatch, capsys):
    from tensorboard.summary.writer.record_writer import RecordWriter

    def refused(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(RecordWriter, "write", refused)
    with pytest.raises(OSError, match="No space"):
        TensorBoard(tmp_path)
    assert threading.excepthook is files._without_the_writers
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    err = capsys.readouterr().err
    assert "No space" not in err and "ZeroDivisionError" in err
