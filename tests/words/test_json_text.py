"""JSON that people read says what `json.dumps` says."""

import json

import numpy as np

from dao.words.json_text import json_text


def test_it_is_what_json_dumps_writes_but_for_long_rows_of_numbers():
    content = {
        "a": [], "ä": {}, 'q"': None, 3: True, "deep": [{"x": [1, 2.5, -1e-7]}, [[], {}], "text\n划痕"], "few": list(range(23)),
        "names": ["n"] * 30, "mixed": [None] * 30, "flags": [True] * 30,
    }  # fmt: skip
    assert json_text(content) == json.dumps(content, indent=2, ensure_ascii=False)


def test_a_matrix_is_a_line_a_row_and_reads_the_same():
    matrix = np.arange(24 * 30).reshape(30, 24).tolist()
    text = json_text({"matrix": matrix})
    assert json.loads(text) == {"matrix": matrix} and len(text.splitlines()) == 34
