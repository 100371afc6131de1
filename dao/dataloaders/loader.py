"""Batches for a trainer or an evaluator: torch's DataLoader with our samplers and readers inside."""

from __future__ import annotations

import functools
import multiprocessing.queues
import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

import cv2
import torch
from loguru import logger
from torch.utils.data import DataLoader

from dao.config.signature import out_of_limits
from dao.dataloaders.cache import PictureCache, free_memory
from dao.dataloaders.datasets.base import ImageDataset
from dao.dataloaders.reader import BatchReader, ClsReader, Fetched, SegReader
from dao.dataloaders.samplers import EvalSampler, TrainSampler, balanced_weights
from dao.dataloaders.survey import memory_note
from dao.dataloaders.transforms import Pipeline
from dao.errors import ConfigError, Problem, RunError
from dao.preprocess.module import Preprocess
from dao.processes import dist, failures, signals
from dao.processes.cores import usable_cores
from dao.register import Registers
from dao.structures import Batch

# said by torch of a worker that was killed, and by one that found no room to hand a batch over
# smallest and largest values that make sense, both included
LIMITS = {"batch_size": (1, 100_000), "num_workers": (0, 512), "prefetch_factor": (1, 1000)}
_WORKER_DIED = re.compile(r"DataLoader worker \(pid|shared memory|torch_\S*>?: No space left")


class ImageLoader:
    """An iterable of Batches.

    dataset, transforms, preprocess, training, seed: handed over by the core.
    batch_size: pictures a batch on each process. num_workers: processes that read ahead; 0 reads in this one.
    sampler: "random" takes every picture once an epoch; "balanced" draws every class equally often. Training only.
    cache: keep decoded pictures in memory. resize_first: in training, resize before the transforms instead of after.
    prefetch_factor: batches each worker reads ahead. keep_samples: leave the original pixels in ``Batch.samples``.

    Batches are the same, bit for bit, whatever the number of workers, with and without cache. ``reader_class`` is what
    a task overrides. Attributes: dataset, batch_size, iters_per_epoch (``len`` is what remains after set_epoch).
    """

    reader_class: type[BatchReader] = BatchReader

    def __init__(
        self,
        *,
        dataset: ImageDataset,
        transforms: Pipeline | None,
        preprocess: Preprocess,
        training: bool,
        seed: int,
        batch_size: int = 32,
        num_workers: int = 2,
        sampler: Literal["random", "balanced"] = "random",
        cache: bool = False,
        resize_first: bool = True,
        prefetch_factor: int = 2,
        keep_samples: bool = False,
    ) -> None:
        problems = self.check_config(
            {"batch_size": batch_size, "num_workers": num_workers, "prefetch_factor": prefetch_factor},
            type(self).__name__,
        )
        if problems:
            raise ConfigError(problems)
        self.dataset, self.batch_size = dataset, batch_size
        self.reader = self.reader_class(dataset, preprocess, transforms, training, seed, resize_first, keep_samples)
        if cache:
            self.reader.cache = PictureCache(self.reader.read_uncached, len(dataset))
        self.sampler = self._make_sampler(training, sampler, seed)
        self._warn_of_crowding(num_workers)
        self._refuse_more_than_shared_memory(preprocess, training, num_workers, prefetch_factor)
        self._warn_of_size(num_workers)
        self._loader: DataLoader[Fetched] = DataLoader(
            self.reader,
            batch_size=None,  # the reader makes whole batches
            sampler=self.sampler,
            num_workers=num_workers,
            prefetch_factor=prefetch_factor if num_workers else None,
            persistent_workers=num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=functools.partial(_start_worker, parent=os.getpid()),
            # without one of its own it would draw from the run's random numbers, once an epoch
            generator=torch.Generator(),
        )

    def _make_sampler(self, training: bool, kind: str, seed: int) -> TrainSampler | EvalSampler:
        count, rank, world = len(self.dataset), dist.rank(), dist.world_size()
        if not training:
            return EvalSampler(count, self.batch_size, rank, world)
        weights = balanced_weights(self.dataset) if kind == "balanced" else None
        return TrainSampler(count, self.batch_size, seed, rank, world, weights)

    @property
    def iters_per_epoch(self) -> int:
        """Batches of a whole epoch on this process."""
        return self.sampler.iters_per_epoch

    @property
    def num_workers(self) -> int:
        """Processes that read ahead."""
        return self._loader.num_workers

    @property
    def cached(self) -> bool:
        """Whether decoded pictures are kept in memory."""
        return self.reader.cache is not None

    def set_epoch(self, epoch: int, start_iter: int = 0, augment: bool = True) -> None:
        """Before each epoch: its number, the batch to start from when a run is resumed inside it, and whether its
        pictures are varied or only prepared."""
        self.sampler.set_epoch(epoch, start_iter, augment)

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        try:
            for fetched in self._fetch():
                yield fetched.unpack()
        except Exception:
            self.close()
            raise

    def close(self) -> None:
        """End the worker processes at once; left to the garbage collector, it may take five seconds."""
        iterator = getattr(self._loader, "_iterator", None)
        if iterator is not None and hasattr(iterator, "_shutdown_workers"):
            iterator._shutdown_workers()
            self._loader._iterator = None

    def _fetch(self) -> Iterator[Fetched]:
        try:
            yield from self._loader
        except (RuntimeError, ConnectionError, EOFError) as error:
            # one that dies while it hands a batch over breaks the connection; torch marks what was raised inside one
            broken = not isinstance(error, RuntimeError) and "Caught " not in str(error)
            if not broken and not _WORKER_DIED.search(str(error)):
                raise
            raise lost_worker(error, f" (now {self.num_workers}; 0 reads without processes)") from error

    @staticmethod
    def check_config(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
        """Numbers that are out of range, or out of any sense."""
        return out_of_limits(kwargs, LIMITS, where)

    @staticmethod
    def _warn_of_crowding(num_workers: int) -> None:
        cores = usable_cores()
        if num_workers > cores:
            logger.warning("num_workers is {}, and there are {} cores: they will share them", num_workers, cores)

    def _refuse_more_than_shared_memory(self, preprocess: Preprocess, training: bool, workers: int, ahead: int) -> None:
        """Batches that are read ahead wait in shared memory, of which containers have 64 MB: known before it is full.

        Raises RunError where a single batch is larger than all of it.
        """
        if not workers or preprocess.settings.tiled or not (found := failures.shared_memory_bytes()):
            return
        height, width = preprocess.size
        batch = self.batch_size * height * width * preprocess.in_channels * (1 if training else 4)  # uint8 or float32
        total, free = found
        said = f"a batch takes {batch / 2**20:.0f} MiB of shared memory{failures.shared_memory()}"
        if batch > total:
            raise RunError(f"{said} (docker: --shm-size=8g or --ipc=host). {failures.FEWER}")
        if batch * workers * ahead > free:
            logger.warning("{}, and {} processes read {} batches ahead each: it may not suffice. {}",
                           said, workers, ahead, failures.FEWER)  # fmt: skip

    @staticmethod
    def _warn_of_size(num_workers: int) -> None:
        """Each process decodes one picture at a time, so that they are bounded by their number and ``limits``."""
        processes = max(1, num_workers) * int(os.environ.get("LOCAL_WORLD_SIZE", dist.world_size()))
        note = memory_note(processes, free_memory())
        if note and dist.is_main():
            logger.warning("{}", note)


def lost_worker(error: BaseException, now: str = "; 0 reads without processes") -> RunError:
    """What to tell of a loader process that died; ``now``: what is said of the present num_workers."""
    return RunError(
        f"a loader process died ({' '.join(str(error).split())}). Most often it ran out of memory, or of shared "
        f"memory{failures.shared_memory()} (docker: --shm-size=8g or --ipc=host). Use fewer num_workers{now}, a smaller "
        "prefetch_factor or batch_size"
    )


def is_lost_worker(error: BaseException) -> bool:
    """Whether torch says that a worker was killed: its signal handler does so wherever the main thread is just then."""
    return isinstance(error, RuntimeError) and "DataLoader worker (pid" in str(error)


def _start_worker(worker_id: int, parent: int) -> None:
    """One thread a worker: there are as many workers as wanted. Being asked to stop is for the main process to handle."""
    if os.getppid() != parent:  # it was killed in this very moment: torch would take the process that adopts us for it
        os._exit(1)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    for number in signals.STOPPING:
        if number != signal.SIGTERM:  # by which torch ends them
            signal.signal(number, signal.SIG_IGN)
    # Queues print what goes wrong while a batch is sent and go on: the other side would wait for ever.
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_leave)  # type: ignore[attr-defined]


def _leave(error: BaseException, _: object) -> None:
    """A batch cannot be handed over, most often as shared memory is full: say so, and let the main process see it."""
    sys.stderr.write(f"a loader process cannot hand its batch over: {error}\n")
    sys.stderr.flush()
    os._exit(1)


@Registers.dataloaders.register()
class ClsDataloader(ImageLoader):
    """Batches for classification: targets are (B,) int64 classes, or (B, K) float32 where pictures carry several.

    Keywords: see ImageLoader.
    """

    reader_class = ClsReader


@Registers.dataloaders.register()
class SegDataloader(ImageLoader):
    """Batches for segmentation: targets are (B, h, w) uint8 classes in training, 255 where nothing is labelled.

    window: in training take windows [height, width] of this size out of the pictures, in their own resolution, instead
        of whole ones; the network answers for whole ones all the same. Cheaper, and each step sees more parts; the
        transform DefectCrop chooses windows with defects. It fits where `preprocess` leaves the scale about as it is.
    Other keywords: see ImageLoader.
    """

    reader_class = SegReader

    def __init__(
        self,
        *,
        dataset: ImageDataset,
        transforms: Pipeline | None,
        preprocess: Preprocess,
        training: bool,
        seed: int,
        batch_size: int = 32,
        num_workers: int = 2,
        sampler: Literal["random", "balanced"] = "random",
        cache: bool = False,
        resize_first: bool = True,
        prefetch_factor: int = 2,
        keep_samples: bool = False,
        window: tuple[int, int] | None = None,
    ) -> None:
        if training and window is not None:
            preprocess = Preprocess(replace(preprocess.settings, size=tuple(window), resize="tile"))
        super().__init__(
            dataset=dataset, transforms=transforms, preprocess=preprocess, training=training, seed=seed,
            batch_size=batch_size, num_workers=num_workers, sampler=sampler, cache=cache, resize_first=resize_first,
            prefetch_factor=prefetch_factor, keep_samples=keep_samples,
        )  # fmt: skip
