from __future__ import annotations

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from dao.dataloaders.datasets.base import ImageDataset
from dao.dataloaders.datasets.csvfile import CsvDataset
from dao.dataloaders.datasets.folder import FolderDataset
from dao.dataloaders.datasets.images import ImageFiles
from dao.dataloaders.loader import ClsDataloader, ImageLoader
from dao.dataloaders.reader import BatchReader
from dao.dataloaders.samplers import BatchKey
from dao.dataloaders.transforms import build_transforms
from dao.errors import ConfigError, DataError, Problem, RunError
from dao.preprocess import Preprocess
from dao.register import Registers

AUGMENT = [
    {"type": "HorizontalFlip", "kwargs": {"p": 0.5}},
    {
        "type": "OneOf",
        "kwargs": {"p": 0.8, "transforms": [{"type": "GaussNoise"}, {"type": "Rotate"}, {"type": "Blur"}]},
    },
    {"type": "RandomBrightnessContrast", "kwargs": {"p": 1.0}},
]


@pytest.fixture
def make_loader(folder_set, preprocess):
    def make(kind=ClsDataloader, **kwargs) -> ImageLoader:
        defaults = {
            "dataset": kwargs.pop("dataset", None) or FolderDataset(str(folder_set)),
            "transforms": build_transforms(kwargs.pop("augment", AUGMENT)),
            "preprocess": preprocess,
            "training": True,
            "seed": 7,
            "batch_size": 4,
            "num_workers": 0,
        }
        return kind(**{**defaults, **kwargs})

    return make


def run(loader: ImageLoader, epoch: int = 0, start_iter: int = 0) -> list[tuple]:
    loader.set_epoch(epoch, start_iter)
    return [(b.images.clone(), b.targets.clone(), b.indices, b.paths, b.original_hw) for b in loader]


def same(first: list[tuple], second: list[tuple]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) and a[2:] == b[2:] for a, b in zip(first, second)
    )


def test_training_batches(make_loader, folder_set):
    loader = make_loader()
    assert (
        len(loader) == loader.iters_per_epoch == 3 and loader.batch_size == 4
    )  # the last picture of 13 joins the third
    seen = []
    for batch in loader:
        assert batch.images.dtype == torch.uint8 and batch.images.shape == (len(batch), 3, 16, 24)
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert batch.targets.dtype == torch.int64 and not batch.bad and batch.samples is None
        for path, index, target, hw in zip(batch.paths, batch.indices, batch.targets, batch.original_hw):
            assert path == loader.dataset.records[index].path
            assert int(target) == ("scratch" in path) and (hw[0] == 24 or "dent" in path)
        seen += batch.indices
    assert sorted(seen) == list(range(13))


def test_evaluation_pixels_are_the_exported_graphs(make_loader, preprocess):
    loader = make_loader(training=False, augment=[])
    indices = []
    for batch in loader:
        assert batch.images.dtype == torch.float32
        for row, index in zip(batch.images, batch.indices):
            raw = loader.dataset.read(index).image
            want = preprocess.resize(torch.from_numpy(raw).permute(2, 0, 1)[None])[0]
            assert torch.equal(row, want)
        indices += batch.indices
    assert indices == list(range(13))


def test_training_pixels_without_transforms_are_the_resized_picture(make_loader, preprocess):
    for first in (True, False):
        for batch in make_loader(augment=[], resize_first=first):
            for row, path in zip(batch.images, batch.paths):
                raw = make_loader().dataset.read(batch.indices[batch.paths.index(path)]).image
                assert np.array_equal(row.permute(1, 2, 0).numpy(), preprocess.resize_uint8(raw))


def test_worker_count_and_cache_change_nothing(make_loader):
    """0, 1 and 2 workers, with and without cache: the same batches, bit for bit, in two epochs."""
    alone = make_loader()
    want = [run(alone, epoch) for epoch in (0, 1)]
    assert not same(*want)
    for kwargs in ({"num_workers": 1}, {"num_workers": 2}, {"cache": True}, {"cache": True, "num_workers": 2}):
        loader = make_loader(**kwargs)
        assert all(same(run(loader, epoch), want[epoch]) for epoch in (0, 1)), kwargs


@pytest.mark.parametrize("kwargs", [{"resize_first": False}, {"training": False, "augment": []}])
def test_cached_equals_uncached_in_the_other_ways_of_reading(make_loader, kwargs):
    assert same(run(make_loader(cache=True, **kwargs)), run(make_loader(**kwargs)))


def test_resumed_inside_an_epoch_it_gives_the_tail(make_loader):
    loader = make_loader()
    whole = run(loader, 3)
    resumed = make_loader()
    assert same(run(resumed, 3, 1), whole[1:]) and len(resumed) == 2 and resumed.iters_per_epoch == 3


def test_stopping_early_leaves_the_loader_usable(make_loader):
    loader = make_loader(num_workers=2)
    want = run(loader)
    next(iter(loader))
    assert same(run(loader), want)


def test_the_runs_random_numbers_are_left_alone(make_loader):
    loader = make_loader()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    run(loader)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_reader_survives_the_way_to_a_spawned_worker(make_loader):
    reader = make_loader(cache=True).reader
    key = BatchKey(2, [0, 5, 9])
    there = pickle.loads(pickle.dumps(reader))[key].unpack()
    assert torch.equal(there.images, reader[key].unpack().images)


# -- what cannot be read ---------------------------------------------------------------------------------------------


@pytest.fixture
def damaged(folder_set):
    """Numbers 2 and 3 of the training set cannot be read."""
    for i in (2, 3):
        path = folder_set / "train" / "dent" / f"{i}.png"
        path.write_bytes(path.read_bytes()[:-40])
    return FolderDataset(str(folder_set))


@pytest.mark.parametrize("cache", [False, True])
def test_in_training_the_next_readable_picture_steps_in(make_loader, damaged, cache):
    loader = make_loader(dataset=damaged, cache=cache)
    seen, bad = [], []
    for batch in loader:
        assert len(batch) == len(batch.images) == len(batch.targets)
        seen += batch.indices
        bad += batch.bad
    assert sorted(seen) == [0, 1, 4, 4, 4, *range(5, 13)]
    assert {entry.index for entry in bad} == {2, 3}
    assert all("truncated PNG" in entry.reason and entry.path.endswith(f"{entry.index}.png") for entry in bad)


@pytest.mark.parametrize("cache", [False, True])
def test_in_evaluation_it_is_left_out(make_loader, damaged, cache):
    loader = make_loader(dataset=damaged, cache=cache, training=False, augment=[], batch_size=1)
    batches = list(loader)
    assert [b.indices for b in batches] == [[0], [1], [], [], *([i] for i in range(4, 13))]
    assert batches[2].images.shape == (0, 3, 16, 24) and batches[2].targets.shape == (0,)
    assert [entry.index for b in batches for entry in b.bad] == [2, 3]


def test_nothing_readable_ends_training(make_loader, folder_set):
    for path in (folder_set / "train").glob("*/*"):
        path.write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"(?s)13 of 13 pictures in a row cannot be read.*0\.png: not a picture"):
        list(make_loader(num_workers=1))


# -- targets, samplers, settings -------------------------------------------------------------------------------------


def test_several_labels_give_multi_hot_targets(make_loader, folder_set):
    (folder_set / "many.csv").write_text("image,label\ntrain/dent/0.png,a|b\ntrain/dent/1.png,none\n")
    dataset = CsvDataset(str(folder_set / "many.csv"), label_separator="|", none_label="none")
    (batch,) = make_loader(dataset=dataset, training=False, augment=[])
    assert batch.targets.dtype == torch.float32 and batch.targets.tolist() == [[1, 1], [0, 0]]


def test_unlabelled_pictures_have_no_targets_and_may_keep_their_pixels(make_loader, folder_set):
    dataset = ImageFiles(str(folder_set / "val" / "dent"))
    (batch,) = make_loader(dataset=dataset, training=False, augment=[], keep_samples=True)
    assert batch.targets is None
    assert [s.image.shape for s in batch.samples] == [(20, 30, 3)] * 3


def test_balanced_sampler_evens_out_the_classes(make_loader):
    loader = make_loader(sampler="balanced", batch_size=13)
    drawn = torch.cat([run(loader, epoch)[0][1] for epoch in range(40)])
    assert abs(drawn.float().mean() - 0.5) < 0.1  # 520 draws; 9 to 4 otherwise


@pytest.mark.parametrize(
    ("augment", "channels"),
    [([{"type": "ToGray", "kwargs": {"num_output_channels": 1, "p": 1}}], 3), ([{"type": "GrayToRGB"}], 1)],
)
@pytest.mark.parametrize("training", [True, False])
def test_transforms_may_change_channels_and_size(make_loader, augment, channels, training):
    crop = {"type": "RandomCrop", "kwargs": {"height": 9, "width": 9}}
    loader = make_loader(
        augment=[*augment, crop], preprocess=Preprocess(size=(16, 24), in_channels=channels), training=training
    )
    assert all(batch.images.shape[1:] == (channels, 16, 24) for batch in loader)


def test_an_error_in_a_worker_keeps_its_place(make_loader):
    loader = make_loader(num_workers=1, augment=[{"type": "RandomCrop", "kwargs": {"height": 900, "width": 9}}])
    with pytest.raises(ConfigError) as caught:
        list(loader)
    (problem,) = caught.value.problems
    assert isinstance(problem, Problem) and problem.where == "transforms" and "CropSizeError" in problem.what


class DyingReader(BatchReader):
    def read_batch(self, key):
        os._exit(1)


class DyingLoader(ImageLoader):
    reader_class = DyingReader


def test_a_dead_worker_is_explained(make_loader, monkeypatch):
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.2)
    with pytest.raises(RunError, match=r"(?s)loader process died.*shared memory.*num_workers"):
        list(make_loader(DyingLoader, num_workers=1))


def test_a_worker_whose_parent_is_gone_before_it_began_does_not_stay():
    command = "from dao.dataloaders.loader import _start_worker; _start_worker(0, parent=1)"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 1


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(104, "Connection reset by peer"),  # killed while it handed a batch over
        EOFError(),
        RuntimeError("unable to write to file </torch_1_2_3>: No space left on device (28)"),
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
    ],
)
def test_every_way_a_worker_can_be_lost_is_explained(make_loader, monkeypatch, error):
    loader = make_loader()

    def lost(self):
        raise error

    monkeypatch.setattr(type(loader._loader), "__iter__", lost)
    with pytest.raises(RunError, match=r"(?s)loader process died.*shared memory.*num_workers"):
        list(loader)


def test_a_batch_that_cannot_be_handed_over_ends_the_run_instead_of_being_waited_for(make_loader, monkeypatch):
    from dao.dataloaders.reader import Fetched

    def full(self, protocol):
        raise RuntimeError("unable to allocate shared memory(shm): No space left on device (28)")

    monkeypatch.setattr(
        Fetched, "__reduce_ex__", full
    )  # found by forked workers; what torch says when /dev/shm is full
    with pytest.raises(RunError, match=r"(?s)loader process died.*num_workers \(now 1"):
        list(make_loader(num_workers=1))


@pytest.mark.parametrize("kind", [RuntimeError, ConnectionRefusedError])
def test_a_bug_in_a_worker_stays_a_bug(make_loader, kind):
    class Broken(ImageDataset):
        def read(self, index, in_channels=3, bit_depth=16):
            raise kind("our mistake")

    broken = Broken(make_loader().dataset.records, ["dent", "scratch"])
    with pytest.raises(kind, match="our mistake"):
        list(make_loader(dataset=broken, num_workers=1))


@pytest.mark.parametrize("key", ["batch_size", "num_workers", "prefetch_factor"])
def test_numbers_out_of_range(make_loader, key):
    section = {"type": "ClsDataloader", "kwargs": {key: -1}}
    assert [p.where for p in Registers.dataloaders.check_kwargs(ClsDataloader, section["kwargs"], "k")] == [f"k.{key}"]
    with pytest.raises(ConfigError, match="expected a number from"):
        make_loader(**{key: -1})


def test_it_is_built_by_name(make_loader):
    from_code = make_loader()
    reader = from_code.reader
    built = Registers.dataloaders.build(
        {"type": "ClsDataloader", "kwargs": {"batch_size": 4, "num_workers": 0}},
        dataset=from_code.dataset, transforms=reader.transforms, preprocess=reader.preprocess, training=True, seed=7,
    )  # fmt: skip
    assert same(run(built), run(from_code))
