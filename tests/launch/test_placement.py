"""Ranks and devices from the command line and from torchrun's variables, by tables."""

import pytest

import main
from dao.errors import ConfigError
from dao.launch.placement import place


def placed(*argv):
    args = main.parse_args(["-c", "x.json", "--device", "cpu", *argv])
    return [(p.rank, p.local_rank, p.world_size, p.local_world_size, p.backend) for p in place(args)]


@pytest.fixture(autouse=True)
def no_torchrun(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        ([], [(0, 0, 1, 1, "gloo")]),
        (["--devices", "auto"], [(0, 0, 1, 1, "gloo")]),
        (["--devices", "2"], [(0, 0, 2, 2, "gloo"), (1, 1, 2, 2, "gloo")]),
        (
            ["--devices", "2", "--num_machines", "3", "--machine_rank", "1", "--dist-url", "tcp://10.0.0.1:29500"],
            [(2, 0, 6, 2, "gloo"), (3, 1, 6, 2, "gloo")],
        ),
    ],
)
def test_ranks(argv, wanted):
    assert placed(*argv) == wanted


def test_torchrun_is_taken_as_it_is(monkeypatch):
    for name, value in {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    assert placed("--devices", "2") == [(5, 1, 8, 4, "gloo")]


def test_one_address_for_all_processes_of_a_machine():
    args = main.parse_args(["-c", "x.json", "--device", "cpu", "--devices", "3"])
    assert len({p.init_method for p in place(args)}) == 1


@pytest.mark.parametrize(
    "argv", [["--devices", "0"], ["--devices", "x"], ["--dist-url", "host:1"], ["--num_machines", "2"]]
)
def test_refusals(argv):
    with pytest.raises(ConfigError):
        placed(*argv)
