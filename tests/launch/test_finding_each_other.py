"""How processes find each other, compare themselves, and notice that one is gone: stores and threads in one process."""

import platform
import socket
import threading
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch.distributed as torch_dist

from dao.dataloaders.datasets.base import Record
from dao.errors import ConfigError, RunError
from dao.launch import preflight
from dao.processes import dist, heartbeat

HOST = "127.0.0.1"


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.1)
    monkeypatch.setattr(heartbeat, "PATIENCE", 1.0)
    monkeypatch.setattr(dist, "JOIN_SECONDS", 1.0)


@pytest.fixture
def store(quick):
    return torch_dist.TCPStore(HOST, 0, None, True, timeout=timedelta(seconds=5), wait_for_workers=False)


class Machine(heartbeat.Heartbeat):
    """A heartbeat that keeps what it would have ended the process with."""

    def __init__(self, port: int, rank: int, world: int = 2):
        self.ended = threading.Event()
        self.why = ""
        super().__init__(HOST, port, rank, world, self.keep)
        self.start()

    def keep(self, why: str) -> None:
        self.why = self.why or why
        self.ended.set()
        self.stopped.set()


def test_alive_and_leaving_in_peace_is_no_alarm_even_when_one_leaves_later(store):
    first, second = Machine(store.port, 0), Machine(store.port, 1)
    second.stop()
    time.sleep(2.5)  # longer than anyone is waited for
    first.stop()
    assert not first.why and not second.why
    assert not first.beating.is_alive() and not second.beating.is_alive()


def test_the_one_that_has_the_store_stays_until_the_others_have_left(store):
    first, second = Machine(store.port, 0), Machine(store.port, 1)
    leaving = threading.Thread(target=first.stop)
    leaving.start()
    time.sleep(0.5)
    assert leaving.is_alive()
    second.stop()
    leaving.join(1)
    assert not leaving.is_alive()


def test_silence_ends_the_run_and_names_who_is_silent(store):
    first = Machine(store.port, 0)
    store.set("host/1", "line-3")
    store.set("beat/1", "7")
    assert first.ended.wait(5)
    assert "rank 1 on line-3 has not been heard of for 1 seconds" in first.why


def test_one_that_has_not_come_yet_is_waited_for(store):
    first = Machine(store.port, 0)
    assert not first.ended.wait(2.5)
    first.fail("enough")


def test_what_ended_one_is_told_to_the_others(store):
    first, second = Machine(store.port, 0), Machine(store.port, 1)
    time.sleep(0.3)
    second.fail("KeyError: 'lamp'")
    assert first.ended.wait(5)
    assert first.why == f"rank 1 on {platform.node()} failed: KeyError: 'lamp'"


def test_an_error_that_all_share_is_told_by_each_alone(store):
    machines = Machine(store.port, 0), Machine(store.port, 1)
    time.sleep(0.3)
    ending = [threading.Thread(target=machine.fail, args=("the same",)) for machine in machines]
    started = time.monotonic()
    for thread in ending:
        thread.start()
    for thread in ending:
        thread.join()
    assert not any(machine.why for machine in machines) and time.monotonic() - started < 3


def test_a_store_that_is_gone_ends_the_run(quick):
    store = torch_dist.TCPStore(HOST, 0, None, True, timeout=timedelta(seconds=5), wait_for_workers=False)
    second = Machine(store.port, 1)
    time.sleep(0.3)
    del store
    assert second.ended.wait(5)
    assert "gone" in second.why


# -- meeting


def test_a_taken_port_is_named(quick):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(RunError, match=f"port {port} is taken.*--dist-url"):
            dist._meet(HOST, port, 2, 0)


def test_a_machine_that_does_not_come_is_missed(quick):
    with pytest.raises(RunError, match="not all of the 3 processes came.*--machine_rank"):
        dist._meet(HOST, free_port(), 3, 0)


def test_a_machine_that_cannot_be_reached_is_named(quick):
    port = free_port()
    with pytest.raises(RunError, match=f"rank 1 could not reach machine 0 at {HOST}:{port}"):
        dist._meet(HOST, port, 2, 1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


# -- comparing


def gathered(monkeypatch, *others):
    monkeypatch.setattr(dist, "is_active", lambda: True)
    monkeypatch.setattr(dist, "world_size", lambda: 1 + len(others))
    monkeypatch.setattr(dist, "all_gather_object", lambda own: [own, *(other(own) for other in others)])


def test_machines_that_are_alike_go_on(monkeypatch):
    gathered(monkeypatch, lambda own: ("line-2", dict(own[1])))
    preflight.check_same_everywhere({"name": "a"})


def test_every_difference_is_named_with_rank_machine_and_both_values(monkeypatch):
    def other(own):
        return "line-2", {**own[1], "torch": "2.6.0", "config loss.type": "FocalLoss"}

    gathered(monkeypatch, lambda own: ("line-1", dict(own[1])), other)
    with pytest.raises(ConfigError) as raised:
        preflight.check_same_everywhere({"loss": {"type": "DiceLoss"}})
    said = str(raised.value)
    assert "torch of rank 2 on line-2 is 2.6.0, of rank 0" in said
    assert "config loss.type of rank 2 on line-2 is FocalLoss, of rank 0" in said and "DiceLoss" in said
    assert "rank 1" not in said


def test_a_disk_may_be_mounted_elsewhere_on_each_machine():
    here, there = ({"data": [{"data_dir": f"{root}/steel"}], "name": "a"} for root in ("/mnt/a", "/data"))
    assert dict(preflight.leaves(here)) == dict(preflight.leaves(there)) == {"data.0.data_dir": "a path", "name": "a"}


def test_a_machine_with_other_pictures_labels_or_bytes_is_noticed(monkeypatch, tmp_path):
    def on(machine, *pictures):
        records = []
        for name, label, size in pictures:
            path = tmp_path / machine / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x" * size)
            records.append(Record(str(path), label=label))
        return SimpleNamespace(records=records)

    usual = [("good/1.png", 0, 5), ("bad/1.png", 1, 5)]
    here = preflight.listing(on("here", *usual))
    assert here == preflight.listing(on("there", *usual))
    others = [
        usual[::-1],
        [("good/1.png", 1, 5), usual[1]],
        [("good/1.png", 0, 6), usual[1]],
        [("good/2.png", 0, 5), usual[1]],
    ]
    assert here not in [preflight.listing(on(f"other{i}", *pictures)) for i, pictures in enumerate(others)]
    gathered(monkeypatch, lambda own: ("line-2", {"training": here}))
    with pytest.raises(ConfigError, match="training of rank 1 on line-2 is 2 pictures.*3 pictures"):
        preflight.check_same_data(training=on("more", *usual, ("bad/2.png", 1, 5)), calibration=None)


@pytest.mark.parametrize("said", ["20s", "-1", "nan", "inf"])
def test_a_patience_that_is_no_number_of_seconds_is_refused(monkeypatch, said):
    monkeypatch.setenv("AICORE_HEARTBEAT_SECONDS", said)
    with pytest.raises(ConfigError, match="AICORE_HEARTBEAT_SECONDS.*number of seconds"):
        heartbeat.seconds("AICORE_HEARTBEAT_SECONDS", 20)


def test_a_scheduler_that_names_no_place_is_told_so(monkeypatch):
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    monkeypatch.setenv("MASTER_PORT", "29500")
    with pytest.raises(ConfigError, match="MASTER_ADDR"):
        dist._place("env://")
