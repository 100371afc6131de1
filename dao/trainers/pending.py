"""Exported files until they are proven: in hidden folders, so that nobody takes one that is torn or wrong for good."""

from __future__ import annotations

import shutil
from pathlib import Path

from dao.errors import RunError
from dao.files import atomic
from dao.processes import failures

REFUTED = ".failed"


class PendingFile:
    """A file that an exporter writes, with whatever it writes beside it, on its way to its final name.

    final: where it is to lie; path: where it is written and proven, under the same name.
    """

    def __init__(self, final: Path) -> None:
        self.final = final
        self.folder = atomic.temporary_of(final)
        self.folder.mkdir()

    @property
    def path(self) -> Path:
        """Where it lies until it is published."""
        return self.folder / self.final.name

    def publish(self, passed: bool = True) -> None:
        """Give it its name, that of a refuted one ending with ".failed"; the file itself last.

        Raises RunError when the disk refuses.
        """
        beside = sorted(one for one in self.folder.iterdir() if one != self.path)
        try:
            for one in [*beside, self.path]:
                if one.is_file():
                    atomic.flush(one)
                one.replace(self.final.with_name(one.name + ("" if passed else REFUTED)))
            atomic.flush_folder(self.final.parent)
        except OSError as error:
            raise RunError(f"{self.final} could not be written: {failures.of_system(error)}") from error
        self.discard()

    def discard(self) -> None:
        """Nothing of it stays."""
        shutil.rmtree(self.folder, ignore_errors=True)
