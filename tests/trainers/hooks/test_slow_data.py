"""The hint comes once, when waiting takes more than half of an epoch, and names what can still be raised."""

import doctest
from types import SimpleNamespace

import pytest
from loguru import logger

from dao.trainers.hooks import slow_data


@pytest.fixture
def said():
    lines = []
    sink = logger.add(lambda message: lines.append(str(message)), level="WARNING")
    yield lines
    logger.remove(sink)


def epoch(hook, data, whole, iterations=12):
    trainer = SimpleNamespace(data_seconds=5.0, iter_seconds=5.0, loader=SimpleNamespace(num_workers=0, cached=False))
    hook.before_epoch(trainer)
    for _ in range(iterations):
        hook.after_iter(trainer)  # the first one waits long and does not count
        trainer.data_seconds, trainer.iter_seconds = data, whole
    hook.after_epoch(trainer)


def test_said_once_and_only_when_waiting_dominates(said, monkeypatch):
    monkeypatch.setattr(slow_data, "usable_cores", lambda: 8)
    hook = slow_data.SlowData()
    epoch(hook, 0.04, 0.1)
    epoch(hook, 0.09, 0.1, iterations=5)
    assert said == []
    epoch(hook, 0.06, 0.1)
    epoch(hook, 0.06, 0.1)
    assert len(said) == 1
    assert (
        "60% of the time (60 of 100 ms" in said[0]
        and "num_workers (now 0, with 8 cores)" in said[0]
        and "cache" in said[0]
    )


def test_the_advice_leaves_out_what_is_done_already():
    assert doctest.testmod(slow_data).failed == 0
    assert slow_data.advice(8, 8, True) == "make the pictures smaller on disk"
