"""The detection task: boxes in original pixels, whole and in tiles, raw answers, comparison, what is refused."""

import numpy as np
import pytest
import torch

import dao.register
from dao.errors import ConfigError
from dao.losses.weighted_sum import build_loss
from dao.preprocess import Preprocess
from dao.register import Registers
from dao.structures import Batch, BoxTargets, Prediction
from dao.tasks.detection import DetectionTask, restored


@pytest.fixture(scope="module", autouse=True)
def registered():
    dao.register.import_all_modules_for_register()


def make(loss=None, size=(64, 96), score=0.2, facts=None, kind="YOLOX", **preprocess):
    torch.manual_seed(0)
    kwargs = {"size": "nano"} if kind == "YOLOX" else {"model_name": "ssdlite320_mobilenet_v3_large"}
    section = {"type": kind, "kwargs": {**kwargs, "score_threshold": score, "max_detections": 20}}
    model = Registers.det_models.build(section, "model", num_classes=3, in_chans=3).eval()
    if kind == "YOLOX":
        with torch.no_grad():  # an untrained head says the same everywhere
            for layer in (*model.head.cls_preds, *model.head.obj_preds):
                layer.weight.normal_(0, 2)
                layer.bias.zero_()
    return DetectionTask(model, Preprocess(size=list(size), **preprocess), list("abc"), loss, facts)


def picture(h=50, w=120, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)


def batch(count=2, size=(64, 96)):
    images = torch.randint(0, 256, (count, 3, *size), dtype=torch.uint8)
    boxes = torch.tensor([[10.0, 8, 50, 40], [30, 20, 90, 60]]).repeat(count, 1, 1)
    targets = BoxTargets(boxes, torch.tensor([[0, 2]] * count))
    return Batch(images, targets, ["x"] * count, list(range(count)), [(64, 96)] * count)


def some_prediction(n=4, seed=0):
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 60, (n, 2))
    boxes = np.concatenate([low, low + rng.uniform(10, 40, (n, 2))], 1).astype(np.float32)
    scores = np.sort(rng.uniform(0.3, 1, n).astype(np.float32))[::-1].copy()
    return Prediction("p.png", (100, 100), boxes_xyxy=boxes, box_labels=rng.integers(0, 3, n), box_scores=scores)


# -- learning


@pytest.mark.parametrize("kind", ["YOLOX", "TorchvisionDetector"])
def test_training_step_has_named_losses_and_a_gradient(kind):
    task = make(build_loss({"type": "YOLOXLoss"}) if kind == "YOLOX" else None, kind=kind)
    task.model.train()
    losses = task.training_step(batch())
    assert len(losses) >= 3 and losses["loss"].isfinite()
    losses["loss"].backward()
    assert all(value.ndim == 0 for value in losses.values())
    assert not any(value.requires_grad for name, value in losses.items() if name != "loss")


def test_a_loss_that_judges_no_boxes_is_refused():
    with pytest.raises(ConfigError, match="YOLOXLoss"):
        make(build_loss({"type": "CrossEntropyLoss"}, num_classes=3))


def test_the_loss_is_told_when_augmentation_ends():
    task = make(build_loss({"type": "YOLOXLoss"}))
    task.begin_pass(augment=False)
    assert "l1" in task.training_step(batch())
    task.begin_pass(augment=True)
    assert "l1" not in task.training_step(batch())
    make(kind="TorchvisionDetector").begin_pass(augment=False)  # a model with its own loss has nobody to tell


def test_multi_scale_moves_boxes_with_the_pictures():
    task, given = make(), batch()
    task.resize_batch(given, (128, 96))
    assert given.images.shape[-2:] == (128, 96)
    assert given.targets.boxes_xyxy[0, 0].tolist() == [10, 16, 50, 80] and given.targets.labels.tolist() == [[0, 2]] * 2


# -- answering


@pytest.mark.parametrize("kind", ["letterbox", "stretch", "crop", "tile"])
@pytest.mark.parametrize("position", ["center", "top_left"])
@pytest.mark.parametrize("hw", [(50, 120), (300, 40), (64, 96)])
def test_a_box_comes_back_to_where_it_was(kind, position, hw):
    settings = Preprocess(size=[64, 96], resize=kind, position=position).settings
    place = settings.place(hw)
    box = torch.tensor([0.25 * hw[1], 0.4 * hw[0], 0.75 * hw[1], 0.6 * hw[0]])
    scale = torch.tensor([place.width / hw[1], place.height / hw[0]] * 2)
    moved = box * scale + torch.tensor([place.left, place.top] * 2)
    torch.testing.assert_close(restored(moved, place, hw), box)
    assert restored(torch.tensor([-1e5, -1e5, 1e5, 1e5]), place, hw).tolist() == [0, 0, hw[1], hw[0]]


def test_predict_of_a_batch_is_the_answer_to_each_picture():
    task = make()
    images = [picture(), picture(80, 70, 1)]
    tensors = torch.stack([task.preprocess.resize_tensor(image) for image in images])
    given = Batch(tensors, None, ["a", "b"], [0, 1], [image.shape[:2] for image in images])
    for found, image in zip(task.predict(given), images):
        alone = task.answer(task.run, image, task.card())
        assert len(alone.box_scores) > 0 and found.original_hw == image.shape[:2]
        assert DetectionTask.agreement(found, alone)
        assert (found.boxes_xyxy >= 0).all() and (found.boxes_xyxy[:, 2] <= image.shape[1]).all()


def test_raw_answers_come_to_the_same_boxes():
    task = make()
    with (
        torch.no_grad()
    ):  # its features are so faint that every score was the same, and which box hides which a matter of luck
        for layer in (*task.model.head.cls_preds, *task.model.head.obj_preds):
            layer.weight.mul_(5e8)
    raw = task.with_facts({"raw": True})
    image = picture()
    dense = raw.run(image[None])["dense"]
    assert dense.shape == (1, 8 * 12 + 4 * 6 + 2 * 3, 8) and len(np.unique(dense[0, :, 4])) > 100
    assert DetectionTask.agreement(raw.answer(raw.run, image, raw.card()), task.answer(task.run, image, task.card()))
    assert task.facts["raw"] is False  # the task itself is as it was


def test_facts_can_be_set_otherwise_and_wrong_ones_are_refused():
    task = make()
    few = task.with_facts({"max_detections": 2})
    assert len(few.answer(few.run, picture(), few.card()).box_scores) == 2
    with pytest.raises(ConfigError, match="has: score_threshold, nms_threshold"):
        task.with_facts({"scor": 0.3}, "export.kwargs.facts")
    with pytest.raises(ConfigError, match="must lie in"):
        task.with_facts({"score_threshold": 3.0})
    with pytest.raises(ConfigError, match="no output before suppression"):
        make(kind="TorchvisionDetector").with_facts({"raw": True})


def test_big_pictures_are_answered_window_by_window():
    task = make(resize="tile", overlap=0.25)
    image = picture(150, 260)
    found = task.answer(task.run, image, task.card())
    assert found.original_hw == (150, 260) and 0 < len(found.box_scores) <= 20
    assert (np.diff(found.box_scores) <= 0).all() and (found.boxes_xyxy[:, 2] > 96).any()
    assert (found.boxes_xyxy <= np.array([260, 150, 260, 150])).all()


# -- leaving


def test_card_and_checkpoint_facts_win_over_the_models():
    task = make(facts={"score_threshold": 0.4})
    assert task.card().facts == {
        "score_threshold": 0.4, "nms_threshold": 0.65, "max_detections": 20, "shown_threshold": 0.3, "raw": False, "class_thresholds": {}, "set_by": {},
    }  # fmt: skip


def test_describe_is_cocos_box():
    task, found = make(), some_prediction()
    told = task.describe(found, task.card())
    x0, y0, x1, y1 = found.boxes_xyxy[1]
    assert told["boxes"][1]["bbox"] == pytest.approx([x0, y0, x1 - x0, y1 - y0], abs=1e-3)
    assert told["label"] == "abc"[found.box_labels[0]] and told["score"] == pytest.approx(found.box_scores[0], abs=1e-5)
    nothing = task.describe(some_prediction(0), task.card())
    assert nothing["boxes"] == [] and nothing["score"] == 0
    assert task.caption(some_prediction(0), task.card()) == "nothing found"
    words = task.caption(found, task.card()).split(", ")
    assert sum(int(word.split()[0]) for word in words) == 4
    best = max(float(word.split()[-1]) for word in words)
    assert best == pytest.approx(found.box_scores.max(), abs=0.005)  # each class with its own best


def test_tables_are_what_coco_tools_read():
    from faster_coco_eval import COCO

    task, found = make(), some_prediction()
    rows = task.tables([task.describe(some_prediction(0), task.card()), task.describe(found, task.card())], task.card())
    rows = rows["coco_results.json"]
    assert [row["category_id"] for row in rows] == (found.box_labels + 1).tolist()
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(task.classes)]
    images = [{"id": i, "file_name": "p.png", "height": 100, "width": 100} for i in (1, 2)]
    read = COCO({"images": images, "categories": categories, "annotations": []}).loadRes(rows)
    assert len(read.getAnnIds(imgIds=[2])) == 4 and not read.getAnnIds(imgIds=[1])


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda p: None, True),
        (lambda p: p.boxes_xyxy.__iadd__(0.01), True),
        (lambda p: p.boxes_xyxy.__iadd__(1.0), False),
        (lambda p: p.box_scores.__isub__(0.01), False),
        (lambda p: p.box_labels.__setitem__(0, (p.box_labels[0] + 1) % 3), False),
    ],
)
def test_agreement(change, same):
    first, second = some_prediction(), some_prediction()
    change(second)
    assert DetectionTask.agreement(first, second) is same


def test_agreement_is_of_sets_and_misses_nothing():
    first, second = some_prediction(), some_prediction()
    for name in ("boxes_xyxy", "box_labels", "box_scores"):
        setattr(second, name, getattr(second, name)[::-1].copy())
    assert DetectionTask.agreement(first, second)
    for name in ("boxes_xyxy", "box_labels", "box_scores"):
        setattr(second, name, getattr(second, name)[1:])
    assert not DetectionTask.agreement(first, second)
    assert DetectionTask.agreement(some_prediction(0), some_prediction(0))


def test_comparison_forgives_a_missing_box_only_at_the_threshold():
    task = make(score=0.3)
    card = task.card()

    def outputs(scores):
        boxes = np.array([[[0, 0, 10, 10], [20, 20, 50, 50]]], np.float32)
        return {"boxes": boxes, "scores": np.array([scores], np.float32), "labels": np.zeros((1, 2), np.int64)}

    both = outputs([0.9, 0.3004])
    assert DetectionTask.compare(both, outputs([0.9005, 0.0]), card, (60, 60)) == {
        "max_abs": pytest.approx(5e-4, abs=1e-6), "max_rel": 0.0, "equal": 1.0, "agree": True,
    }  # fmt: skip
    assert not DetectionTask.compare(outputs([0.9, 0.31]), outputs([0.9, 0.0]), card, (60, 60))["agree"]


def test_drawing_marks_boxes_and_leaves_weak_ones_out():
    task, found = make(), some_prediction(1)
    image = np.full((100, 100, 3), 128, np.uint8)
    strong = task.draw(image, found, task.card())
    assert strong.shape == (700, 700, 3) and (strong != 128).any()
    found.box_scores[:] = 0.1
    assert (task.draw(image, found, task.card()) == 128).all()
    assert (image == 128).all()
