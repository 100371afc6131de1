"""A run folder knows enough to be gone on with, and says when and by what code it was made."""

import json
import subprocess
from datetime import datetime

import pytest

import main
from dao import register
from dao.errors import CheckpointError, ConfigError
from dao.files import run_folder
from dao.launch import launch


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "runs" / "steel"
    (made / "checkpoints").mkdir(parents=True)
    (made / "checkpoints" / "latest.ckpt").touch()
    (made / "config.json").write_text(json.dumps({"name": "steel"}))
    run_folder.write_json(made / "environment.json", {"modules": "mine.json"})
    return made


@pytest.mark.parametrize("part", ["", "checkpoints", "checkpoints/latest.ckpt"])
def test_resume_run_alone_takes_the_runs_own_config(folder, part):
    run_folder.write_json(folder / "environment.json", {"modules": None})
    args = main.parse_args(["--resume", str(folder / part)])
    launch.take_config_of_run(args)
    assert (args.exp_file, args.cus_file) == (str(folder / "config.json"), None)


def test_modules_are_never_imported_on_the_word_of_a_run_folder(folder):
    """A folder from elsewhere could name a file of its own, and resuming would run it."""
    with pytest.raises(ConfigError, match=r"-m mine.json, which is code: say -m again"):
        launch.take_config_of_run(main.parse_args(["--resume", str(folder)]))
    args = main.parse_args(["--resume", str(folder), "-m", "other.json"])
    launch.take_config_of_run(args)
    assert args.cus_file == "other.json"


def test_resume_of_a_folder_without_a_config_asks_for_one(folder):
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"give the run's config with -c"):
        run_folder.config_of_run(str(folder))
    assert main.main(["--resume", str(folder)]) == 2
    assert main.main(["--resume"]) == 2  # the newest run of a name that nobody gave


def test_environment_holds_date_commit_and_modules(tmp_path):
    extra = tmp_path / "extra.json"
    extra.write_text("[]")
    register.import_all_modules_for_register(cus_file=extra)
    found = run_folder.environment()
    age = datetime.now().astimezone() - datetime.fromisoformat(found["date"])
    assert 0 <= age.total_seconds() < 60 and found["modules"] == str(extra) and "commit" in found


def test_commit_is_git_s_word_and_says_when_files_were_changed(tmp_path):
    def git(*words):
        who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
        return subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    assert run_folder.commit(tmp_path) is None
    git("init", "-q")
    (tmp_path / "a.py").write_text("1\n")
    git("add", ".")
    git("commit", "-qm", "one")
    git("tag", "v1")
    assert run_folder.commit(tmp_path) == git("rev-parse", "HEAD").strip()
    (tmp_path / "a.py").write_text("2\n")
    assert run_folder.commit(tmp_path) == git("rev-parse", "HEAD").strip() + "-dirty"
