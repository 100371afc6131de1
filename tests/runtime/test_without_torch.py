"""The answering half alone: exported files of all four problems answer without torch, as they do with it."""

import lzma
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dao.predictor import Predictor
from tests.corpus.make import picture

CORPUS = Path(__file__).parents[1] / "corpus" / "format-1"
FILES = sorted(CORPUS.glob("*.onnx.xz"))
BLOCKED = ("torch", "torchvision", "timm", "albumentations", "matplotlib", "loguru", "pydantic", "onnx")
ALONE = """
import pickle, sys
for name in sys.argv[3].split(","):
    sys.modules[name] = None
import numpy as np
from dao.runtime import Predictor
found = {}
for path in sys.argv[4:]:
    predictor, image = Predictor(path), np.load(sys.argv[1])
    one, = predictor([image])
    drawn = predictor.draw(image, one).shape, predictor.thumbnail(image, one).shape, predictor.caption(one)
    found[path] = [one, one.to_dict(), predictor.describe(one), drawn]
loaded = {name.split(".")[0] for name, module in sys.modules.items() if module is not None}
learning = [name for name in sys.modules if name.startswith(("dao.tasks", "dao.dataloaders", "dao.models", "dao.trainers"))]
pickle.dump((found, loaded, learning), open(sys.argv[2], "wb"))
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    for file in FILES:
        (folder / file.stem).write_bytes(lzma.decompress(file.read_bytes()))
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def alone(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    np.save(folder / "picture.npy", picture())
    names = [str(folder / "picture.npy"), str(folder / "found"), ",".join(BLOCKED), *map(str, files)]
    done = subprocess.run([sys.executable, "-c", ALONE, *names], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return pickle.loads((folder / "found").read_bytes())


def same(first, second):
    if isinstance(first, np.ndarray):
        return first.dtype == second.dtype and np.array_equal(first, second)
    return first == second


def test_every_kind_of_exported_file_answers_with_torch_blocked_as_it_does_with_torch(alone, files):
    found, loaded, learning = alone
    assert {file.name.split(".")[0] for file in FILES} == {"anomaly", "cls", "det", "det-raw", "seg"}
    assert not loaded & set(BLOCKED) and learning == []
    for path in files:
        predictor = Predictor(path, "cpu")
        here = predictor(picture())
        there, told, described, drawn = found[str(path)]
        fields = [name for name in type(here).__dataclass_fields__ if name != "describer"]
        assert [name for name in fields if not same(getattr(here, name), getattr(there, name))] == []
        assert (told, described, drawn[2]) == (here.to_dict(), predictor.describe(here), predictor.caption(here))
        assert drawn[:2] == (predictor.draw(picture(), here).shape, predictor.thumbnail(picture(), here).shape)


def test_what_is_told_has_the_same_keys_for_every_problem_the_verdict_and_its_score_first(alone):
    told = [one[1] for one in alone[0].values()]
    assert len({tuple(one) for one in told}) == 1 and list(told[0])[:2] == ["verdict", "score"]
    assert {one["verdict"] for one in told} <= {"good", "bad", "review"}
    assert all(one["verdict"] == "review" for path, (_, one, _, _) in alone[0].items() if Path(path).stem == "cls")


def test_the_wheel_has_all_that_its_modules_import_and_nothing_of_the_learning_half():
    sys.path.insert(0, str(Path(__file__).parents[2] / "runtime_wheel"))
    try:
        import stage
    finally:
        sys.path.pop(0)
    names = stage.modules()
    from dao.answers.kinds import SHIPPED
    from dao.runtime.backends import ONNX

    assert {module for module, _ in SHIPPED.values()} | {ONNX.split(":")[0], "dao.runtime.predictor"} <= set(names)
    rooms = {name.split(".")[1] for name in names if "." in name}
    assert not rooms & {
        "tasks",
        "models",
        "losses",
        "dataloaders",
        "trainers",
        "evaluators",
        "exporters",
        "calibrators",
    }
    for name in names:
        assert set(stage.imported_by(name)) <= set(names)
