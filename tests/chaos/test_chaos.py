"""A short round of chaos; `make chaos` runs the long one."""

import re
import subprocess
import sys
from pathlib import Path


def test_runs_that_are_struck_down_end_as_if_nothing_had_been():
    script = Path(__file__).parent / "chaos.py"
    command = [sys.executable, str(script), "--kills", "3", "--epochs", "12", "--seed", "3", "--devices", "1"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"[3-9] kills survived \(.+\); (\d+) of \1 runs bit-equal", result.stdout)
