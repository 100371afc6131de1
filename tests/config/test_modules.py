"""A user's files import each other, by every name Python has for them, and are one module each."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOSS = """
from dao.losses.base import Loss
from dao.register import Registers

@Registers.losses.register()
class {name}({base}):
    def forward(self, logits, target):
        return logits.sum()
"""


def write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def listed(folder, *argv):
    result = subprocess.run(
        [sys.executable, str(ROOT / "main.py"), "--list", "losses", *argv],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return [line.split("(")[0].strip() for line in result.stdout.splitlines() if "Mine" in line]


def test_custom_modules_import_each_other_by_every_name(tmp_path):
    """Each of the importers sorts before what it imports, and says with `is` that all names gave the same class."""
    write(tmp_path / "custom_modules", {
        "shared.py": LOSS.format(name="MineShared", base="Loss"),
        "a_full_name.py": "from custom_modules.shared import MineShared\n" + LOSS.format(name="MineA", base="MineShared"),
        "b_short_name.py": "import shared\nfrom custom_modules import a_full_name\n"
                           "assert issubclass(a_full_name.MineA, shared.MineShared)\n",
        "c_relative.py": "from . import shared\nfrom .a_full_name import MineA\n"
                         "assert issubclass(MineA, shared.MineShared)\n",
        "inner/d_deeper.py": "from ..shared import MineShared\n" + LOSS.format(name="MineD", base="MineShared"),
        "e_round.py": "import custom_modules.f_about\nSEEN = 1\n",
        "f_about.py": "import e_round\n",
        "my-loss.py": "from shared import MineShared\n" + LOSS.format(name="MineG", base="MineShared"),
        "json.py": LOSS.format(name="MineH", base="Loss"),
    })  # fmt: skip
    assert listed(tmp_path) == ["MineA", "MineD", "MineG", "MineH", "MineShared"]


def test_files_of_a_cus_file_import_each_other(tmp_path):
    write(tmp_path / "my parts", {
        "first.py": "import second\n" + LOSS.format(name="MineFirst", base="second.MineSecond"),
        "second.py": LOSS.format(name="MineSecond", base="Loss"),
    })  # fmt: skip
    write(tmp_path / "work", {
        "package/__init__.py": "",
        "package/third.py": "from .fourth import MineFourth\n",
        "package/fourth.py": LOSS.format(name="MineFourth", base="Loss"),
        "extra.json": json.dumps(["../my parts/first.py", "../my parts/second.py", "package/third.py", "package.fourth"]),
    })  # fmt: skip
    assert listed(tmp_path / "work", "-m", "extra.json") == ["MineFirst", "MineFourth", "MineSecond"]
