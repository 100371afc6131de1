"""Of very many classes the picture shows those that are confused most, and the table all."""

import csv

import numpy as np

from dao.evaluators import confusion


def test_both_classes_of_the_most_frequent_confusions_are_chosen_then_the_largest():
    counts = np.diag([1, 9, 1, 1, 1, 8, 1, 7])
    counts[4, 2] = 3
    counts[2, 4] = 1
    counts[6, 0] = 2
    assert confusion.most_confused(counts, 2).tolist() == [2, 4]
    assert confusion.most_confused(counts, 4).tolist() == [0, 2, 4, 6]
    assert confusion.most_confused(counts, 6).tolist() == [0, 1, 2, 4, 5, 6]
    assert confusion.most_confused(np.zeros((3, 3), np.int64), 2).tolist() == [0, 1]


def test_the_label_of_the_true_classes_lies_inside_the_picture(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(confusion, "save_figure", lambda figure, path: drawn.append(figure) or path)
    counts = np.random.default_rng(0).integers(1, 40, (6, 6))
    confusion.confusion_png(tmp_path / "m.png", ["ok", "scratch", "dent", "stain", "hole", "missing_part"], counts)
    drawn[0].canvas.draw()
    label = drawn[0].axes[0].yaxis.label
    assert label.get_text() == "true (pictures)" and label.get_window_extent().x0 >= 0


def test_the_picture_of_300_classes_says_what_it_shows_with_rates_of_the_whole_class(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(confusion, "save_figure", lambda figure, path: drawn.append(figure) or path)
    counts = np.eye(300, dtype=np.int64) * 6
    counts[7, 299] = 4  # and one picture of class 7 is taken for one that is not drawn
    counts[7, 150] = 1
    counts[range(30), range(30, 60)] += 2
    names = [f"class {i}" for i in range(300)]
    confusion.confusion_png(tmp_path / "m.png", names, counts)
    axes = drawn[0].axes[0]
    assert "1k" not in axes.get_title() and "1800 of 1865 pictures right" in axes.get_title()
    assert "the 20 of 300 classes that are confused most (the CSV has all)" in axes.get_title()
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert len(labels) == 20 and "class 7 (13)" in labels and "class 299 (6)" in labels
    assert "4\n31 %" in [text.get_text() for text in axes.texts]  # 4 of 13
    path = confusion.matrix_csv(tmp_path / "m.csv", names, counts.tolist())
    with path.open(newline="") as file:
        assert np.array([row[1:] for row in list(csv.reader(file))[1:]], int).tolist() == counts.tolist()


def test_50_classes_are_drawn_whole(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(confusion, "save_figure", lambda figure, path: drawn.append(figure) or path)
    confusion.confusion_png(tmp_path / "m.png", [f"class {i}" for i in range(50)], np.eye(50, dtype=np.int64))
    assert len(drawn[0].axes[0].texts) == 50 and drawn[0].axes[0].get_title() == "50 of 50 pictures right"
