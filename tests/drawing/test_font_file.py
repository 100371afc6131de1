"""A font's characters, read from its own table, are those that FreeType finds in it."""

import struct
from pathlib import Path

import pytest

from dao.drawing import fonts
from dao.drawing.font_file import characters


@pytest.mark.parametrize("bold", [False, True])
def test_they_are_those_of_freetype(bold):
    from matplotlib.ft2font import FT2Font

    path = fonts.font_path("a", bold)
    assert path.name == ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")
    assert characters(path) == set(FT2Font(str(path)).get_charmap())


def test_a_table_of_groups_and_a_collection_are_read_too(tmp_path):
    """Made by hand: format 12 with U+1F600 to U+1F602, and one group whose first code has no glyph."""
    groups = struct.pack(">IIIIII", 0x41, 0x43, 0, 0x1F600, 0x1F602, 7)
    table = struct.pack(">HHIII", 12, 0, 16 + len(groups), 0, 2) + groups
    cmap = struct.pack(">HHHHI", 0, 1, 3, 10, 12) + table
    at = 12 + 4 + 12 + 16
    font = struct.pack(">4sHHHH", b"\x00\x01\x00\x00", 1, 0, 0, 0) + struct.pack(">4sIII", b"cmap", 0, at, len(cmap))
    (tmp_path / "a.ttc").write_bytes(b"ttcf" + struct.pack(">III", 1 << 16, 1, 16) + font + cmap)
    assert characters(tmp_path / "a.ttc") == {0x42, 0x43, 0x1F600, 0x1F601, 0x1F602}
    (tmp_path / "torn.ttf").write_bytes(font[:20])
    assert characters(tmp_path / "torn.ttf") == characters(tmp_path / "none.ttf") == set()


def test_without_matplotlib_a_machines_own_font_writes_and_without_any_pillows(monkeypatch):
    import numpy as np

    from dao.drawing import text

    monkeypatch.setattr(fonts.importlib.util, "find_spec", lambda name: None)
    for cached in (fonts._usual_font, fonts.font_path, text._load):
        cached.cache_clear()
    own = Path("/fonts/DejaVuSans.ttf")
    try:
        monkeypatch.setattr(fonts, "system_fonts", lambda: (own,))
        assert fonts._usual_font(False) == own
        fonts._usual_font.cache_clear()
        monkeypatch.setattr(fonts, "system_fonts", tuple)
        assert fonts.font_path("dent") is None
        drawn = text.put_text(np.full((30, 80, 3), 255, np.uint8), "dent", (2, 2), size=20)
        assert (drawn < 100).any()
    finally:
        for cached in (fonts._usual_font, fonts.font_path, text._load):
            cached.cache_clear()
