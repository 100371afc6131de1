"""Pictures without an answer when two processes share an evaluation: the one may be left with none at all."""

import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as torch_dist
from torch.multiprocessing import start_processes

from dao.errors import AnswerError
from dao.preprocess import Preprocess
from dao.register import Registers, import_all_modules_for_register
from dao.tasks import build
from dao.trainers.evaluation import evaluate

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))

import faults_sets  # a script in no package, which draws small sets for every task

LOST = (1, 3)  # of four pictures: all that the second of two processes sees


def judge(folder, kind):
    """Metrics of a model that was not trained, and the pictures that this process left out."""
    config = faults_sets.config(kind, Path(folder), Path(folder))
    section = config["evaluator"].pop("dataloader")
    section["kwargs"]["batch_size"] = 1
    data = build.build_dataset(section["dataset"], "evaluator.dataloader.dataset", announce=False)
    torch.manual_seed(0)
    model = build.build_model(config, data.classes, 3).eval()
    facts = {"multi_label": False} if kind == "cls" else None
    task = build.task_class(kind)(model, Preprocess(size=(32, 32)), data.classes, facts=facts)
    real, bad = task._answers, []
    task._answers = lambda batch: [
        AnswerError("not finite") if index in LOST else answer for answer, index in zip(real(batch), batch.indices)
    ]
    loader = build.build_loader(section, "evaluator.dataloader", data, task.preprocess, training=False, seed=0)
    evaluator = Registers.evaluators.build(config["evaluator"], "evaluator", classes=data.classes)
    metrics = evaluate(task, loader, evaluator, torch.device("cpu"), seen=lambda batch: bad.extend(batch.bad))
    return metrics, tuple(picture.index for picture in bad)


def work(rank, folder):
    torch_dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.save({kind: judge(folder, kind) for kind in faults_sets.TASKS}, f"{folder}/{rank}.pt")
    torch_dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    import_all_modules_for_register()
    torch.set_num_threads(1)
    folder = faults_sets.write_data(tmp_path_factory.mktemp("two"))
    start_processes(work, args=(str(folder),), nprocs=2, start_method="fork")
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="forks a process that has imported torch")
@pytest.mark.parametrize("kind", faults_sets.TASKS)
def test_a_process_whose_pictures_all_have_no_answer_counts_with_the_other_as_one_process_does(folder, kind):
    alone, left_out = judge(folder, kind)
    assert left_out == LOST and alone["pictures"] == 2
    for rank, lost_here in enumerate(((), LOST)):
        metrics, left_out = torch.load(folder / f"{rank}.pt", weights_only=False)[kind]
        assert left_out == lost_here
        assert metrics == pytest.approx(alone, rel=1e-12, nan_ok=True)
