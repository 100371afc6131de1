"""Which names mean a good part, in the languages of factories: asked wherever nobody has said which class is the good one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

# as people write them; case, width, accents and what joins words make no difference
GOOD_NAMES = (
    # English
    "good", "ok", "okay", "pass", "passed", "normal", "good part", "good parts", "defect free", "no defect", "no defects",
    "non defective", "flawless", "faultless", "undamaged", "intact", "accept", "accepted", "conforming", "qualified",
    # Chinese, Japanese, Korean
    "合格", "合格品", "合格件", "良品", "良", "良好", "正常", "正常品", "正品", "好", "好品", "好件", "完好", "无缺陷", "無缺陷",
    "无瑕疵", "無瑕疵", "異常なし", "欠陥なし", "양품", "정상", "정상품", "합격", "합격품", "양호", "무결함",
    # German, Dutch, Scandinavian, Finnish
    "gut", "Gutteil", "Gutteile", "i.O.", "in Ordnung", "fehlerfrei", "einwandfrei", "goed", "in orde", "foutloos",
    "godkänd", "godkjent", "godkendt", "felfri", "feilfri", "fejlfri", "hyvä", "virheetön",
    # French, Spanish, Italian, Portuguese, Romanian
    "bon", "bonne", "bons", "bonnes", "conforme", "sans défaut", "bueno", "buena", "buenos", "buenas", "correcto",
    "sin defecto", "sin defectos", "aprobado", "buono", "buona", "buoni", "idoneo", "normale", "senza difetti",
    "senza difetto", "bom", "boa", "bons", "boas", "aprovado", "sem defeito", "sem defeitos", "conform", "fără defecte",
    # Polish, Czech, Slovak, Hungarian, Russian, Ukrainian
    "dobry", "dobra", "dobre", "poprawny", "prawidłowy", "bez wad", "dobrý", "dobrá", "v pořádku", "v poriadku", "bez vady",
    "bez vad", "megfelelő", "hibátlan", "хорошо", "хороший", "хорошая", "хорошие", "годен", "годный", "годная", "годное",
    "годные", "норма", "нормальный", "исправный", "в норме", "без дефектов", "без дефекта", "добре", "придатний", "справний",
    # Turkish, Vietnamese, Thai, Indonesian, Hindi, Arabic, Hebrew, Greek
    "iyi", "sağlam", "uygun", "hatasız", "đạt", "ดี", "ปกติ", "ผ่าน", "baik", "bagus", "अच्छा", "ठीक", "جيد", "سليم", "תקין",
    "καλό",
)  # fmt: skip


def plain_name(name: str) -> str:
    """A name without what makes no difference: case, width, accents, a number in front, and what joins words.

    >>> plain_name("01_ＯＫ"), plain_name("i. O."), plain_name("Sans-Défaut")
    ('ok', 'io', 'sansdefaut')
    """
    letters = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", name).casefold())
    bare = "".join(letter for letter in letters if not unicodedata.combining(letter))
    bare = re.sub(r"^\d+[\s._-]+", "", bare.strip())
    return unicodedata.normalize("NFC", re.sub(r"[\s._-]+", "", bare))


_PLAIN = frozenset(map(plain_name, GOOD_NAMES))


def is_good_name(name: str) -> bool:
    """Whether a class, folder or label of this name means a good part."""
    return plain_name(name) in _PLAIN


def good_names(names: Iterable[str]) -> list[str]:
    """Those that mean a good part, in their order."""
    return [name for name in names if is_good_name(name)]
