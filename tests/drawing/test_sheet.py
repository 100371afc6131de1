"""Contact sheets: cells shaped as the pictures are, and captions of which nothing is lost."""

import numpy as np
import pytest

from dao.drawing.pictures import PAPER, RIGHT, TRACK, WRONG
from dao.drawing.plates import ESCAPE, FALSE_ALARM, of_mistake, of_verdict
from dao.drawing.sheet import Cell, caption_lines, contact_sheet, frame_of
from dao.drawing.text import text_width, wrap_text

LONG = "rolled-in_scale_with_oxide_residue_type_A_subsurface"


def plain(height, width, tone=100):
    return np.full((height, width, 3), tone, np.uint8)


def cell(height=64, width=64, tone=100, said=("x",), **more):
    return Cell((plain(height, width, tone),), said, **more)


def box_of(sheet, tone):
    """(left, top, width, height) of the pixels of one tone."""
    rows, columns = np.nonzero((sheet == tone).all(2))
    return columns.min(), rows.min(), columns.max() - columns.min() + 1, rows.max() - rows.min() + 1


# -- cells -------------------------------------------------------------------------------------------------------------


def test_every_picture_stands_in_its_place():
    tones = [44, 84, 124, 164, 204]
    sheet = contact_sheet([cell(50, 50, tone, said=()) for tone in tones], columns=2, tile=64)
    boxes = [box_of(sheet, tone) for tone in tones]
    assert {box[2:] for box in boxes} == {(64, 64)}
    lefts, tops = sorted({box[0] for box in boxes}), sorted({box[1] for box in boxes})
    assert [(lefts.index(x), tops.index(y)) for x, y, _, _ in boxes] == [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2)]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((200, 200), (256, 256)), ((400, 100), (128, 512)), ((100, 400), (512, 128)), ((372, 196), (186, 353))],
)
def test_cells_are_shaped_as_the_pictures_are_and_cover_as_much_as_a_square_of_the_tile(shape, expected):
    """sqrt(196 / 372) * 256 = 186 and 256 / sqrt(196 / 372) = 353; nothing of a cell is grey."""
    sheet = contact_sheet([cell(*shape, said=())] * 3, columns=3)
    assert frame_of([cell(*shape)], 256).view_wh == expected
    assert not (sheet == TRACK).all(2).any() and int((sheet == 100).all(2).sum()) == 3 * expected[0] * expected[1]


def test_one_odd_picture_among_many_leaves_the_cells_as_the_many_are():
    cells = [cell(300, 100), cell(300, 100), cell(300, 100), cell(100, 900, tone=30, said=())]
    width, height = frame_of(cells, 256).view_wh
    assert width / height == pytest.approx(1 / 3, abs=0.01)
    _, _, wide, high = box_of(contact_sheet(cells), 30)
    assert wide == width and high == pytest.approx(width / 9, abs=1)


def test_a_strip_is_shown_up_to_twice_the_tile_wide_and_its_row_is_no_higher_than_it():
    sheet = contact_sheet([cell(60, 600, said=())] * 2, columns=1)
    assert box_of(sheet, 100)[2] == 512 and int((sheet[:, 100] == 100).all(1).sum()) == 2 * 51


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (2, 2), (3, 3), (24, 6), (7, 4)])
def test_a_sheet_is_somewhat_wider_than_high_and_its_last_row_well_filled(count, columns):
    sheet = contact_sheet([cell()] * count)
    assert sheet.shape[1] == 12 + columns * (256 + 12)


def test_a_sheet_of_triples_stays_as_wide_as_a_screen():
    sheet = contact_sheet([Cell((plain(100, 100),) * 3, ("x",))] * 24, heads=("picture", "truth", "said"))
    assert 1500 < sheet.shape[1] <= 2000


@pytest.mark.parametrize(("shape", "axis"), [((50, 200), 1), ((100, 100), 0)])
def test_wide_views_of_one_part_lie_below_each_other_and_others_beside(shape, axis):
    views = tuple(plain(*shape, tone) for tone in (44, 84))
    sheet = contact_sheet([Cell(views, ())], heads=("truth", "found"))
    first, second = (box_of(sheet, tone) for tone in (44, 84))
    assert first[1 - axis] == second[1 - axis] and second[axis] > first[axis] + first[2 + axis] - 1


def test_words_stand_where_there_is_no_picture_to_show():
    tall = plain(200, 100)
    frame = frame_of([Cell((tall,) * 3, ())], 256)
    sheet = contact_sheet([Cell((tall, "bad, no mask given", tall), ())])
    middle = sheet[frame.gap : frame.gap + frame.view_wh[1], frame.gap + frame.view_wh[0] + 10 :][
        :, : frame.view_wh[0] - 20
    ]
    grey = (middle == TRACK).all(2)
    assert 0.8 < grey.mean() < 1 and not (middle == 100).all(2).any()  # letters on a grey field


@pytest.mark.parametrize("cells", [[], [cell(), Cell((plain(9, 9),) * 2, ("x",))]])
def test_cells_of_other_numbers_of_views_and_none_at_all_are_refused(cells):
    with pytest.raises(ValueError, match="as many views"):
        contact_sheet(cells)


# -- words -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(100, 100), (400, 100), (100, 500)])
@pytest.mark.parametrize("bad", [True, False, None])
def test_no_letter_of_classes_and_scores_is_cut_and_every_line_fits(shape, bad):
    said = (f"said {LONG}: score 0.93", f"is {LONG}: score 0.02", "badness 0.520, bad from 0.3")
    one = cell(*shape, said=said, name="x" * 80 + ".png", plate=of_verdict(bad))
    frame = frame_of([one], 256)
    lines = caption_lines(one, frame)
    assert "".join(lines[:-1]).replace(" ", "") == "".join(said).replace(" ", "")
    assert all(text_width(line, frame.size) <= frame.width for line in lines)
    assert lines[-1].startswith("xxx") and lines[-1].endswith("x.png") and "…" in lines[-1]


def test_lines_break_between_words_and_long_words_after_a_mark():
    assert wrap_text("one two three", text_width("one two", 14), 14) == ["one two", "three"]
    assert wrap_text("a b, c dd", text_width("a b, c", 14), 14) == ["a b,", "c dd"]  # after a comma before all
    assert wrap_text("is ab_cd_ef", text_width("ab_cd_ef", 14), 14) == ["is", "ab_cd_ef"]  # whole on a line of its own
    assert wrap_text("is ab_cd_efghij", text_width("is ab_cd_", 14), 14) == ["is ab_cd_", "efghij"]
    assert "".join(wrap_text("划伤压痕", text_width("划伤", 14), 14)) == "划伤压痕"
    assert wrap_text("is 麻点点蚀表面缺陷", text_width("is 麻点", 14), 14)[0] == "is 麻点"
    assert wrap_text("abc", 1, 14) == ["a", "b", "c"] and wrap_text("", 50, 14) == [""]


def test_text_stays_inside_the_sheet():
    cells = [cell(90, 30, said=("W" * 90, "a b"), name="W" * 90, plate=of_verdict(True))] * 2
    legend = {f"{LONG} {i}": (i, 0, 0) for i in range(60)}
    sheet = contact_sheet(cells, tile=100, title="W" * 300 + " and more", legend=legend)
    assert all((edge == PAPER).all() for edge in (sheet[:, -3:], sheet[:, :3], sheet[-2:], sheet[:2]))


def test_a_legend_shows_every_colour_up_to_forty():
    colors = {f"class {i}": (5 * i, 1, 2) for i in range(45)}
    sheet = contact_sheet([cell()], legend=colors)
    assert [i for i in range(45) if (sheet == (5 * i, 1, 2)).all(2).sum() > 100] == list(range(40))


def test_a_sheet_tells_ok_from_ng_by_a_word_on_a_plate():
    sheet = contact_sheet(
        [cell(said=("a",), plate=of_verdict(bad)) for bad in (True, False, None)], columns=3, tile=128
    )
    none = contact_sheet([cell(said=("a",)) for _ in range(3)], columns=3, tile=128)
    ng, ok, unknown = (sheet[134:, left : left + 60] for left in (6, 140, 274))
    full = [int((part == color).all(2).sum()) for part, color in ((ng, WRONG), (ok, RIGHT))]
    assert full[0] > 2 * full[1] > 0  # a full plate and an empty frame: told apart in grey as well
    assert (unknown == none[134:, 274:334]).all()


def test_on_a_sheet_of_mistakes_the_plate_is_the_mistake_and_no_green_ok():
    """(is bad, called bad) -> the plate; the sheet holds its colour, and no green but on a demo's."""
    said = {(True, False): ESCAPE, (False, True): FALSE_ALARM}
    for bad, called in ((True, False), (False, True), (True, True), (False, False), (None, False), (None, True)):
        plate = of_mistake(bad, called)
        assert plate.word == (said[bad, called].word if (bad, called) in said else "NG" if called else "OK")
        sheet = contact_sheet([cell(said=("a",), plate=plate)], tile=128)
        assert (sheet == plate.color).all(2).any() and not (sheet == RIGHT).all(2).any()
    assert (ESCAPE.word, FALSE_ALARM.word) == ("ESCAPE", "FALSE ALARM")
    assert of_mistake(True, None) is of_verdict(None) is None


@pytest.mark.parametrize("name", ["a\nb.png", "a\tb\x1b[31m.png", "\udcff.png"])
def test_what_cannot_be_written_in_a_line_is_written_out(name):
    """Pillow measures no line ends, and no font has the bytes of a name that is no UTF-8."""
    sheet = contact_sheet([cell(name=name, said=(name,))], title=name, legend={name: (1, 2, 3)}, tile=128)
    written = name.encode("unicode_escape").decode()
    wanted = contact_sheet([cell(name=written, said=(name,))], title=name, legend={written: (1, 2, 3)}, tile=128)
    assert (sheet == wanted).all()
