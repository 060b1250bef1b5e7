"""What a run leaves to be read: the commit is that of jaxhep, lines that a kill cut short are left out."""

import json
import subprocess

from jaxhep import log


def test_the_commit_is_of_the_repository_of_the_code_and_of_no_other(tmp_path, monkeypatch):
    def git(*arguments):
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    (tmp_path / "jaxhep").mkdir()
    (tmp_path / "venv" / "site-packages" / "jaxhep").mkdir(parents=True)
    (tmp_path / "jaxhep" / "log.py").write_text("")
    git("init", "-q")
    git("add", "jaxhep")
    git("commit", "-qm", "one")
    monkeypatch.setattr(log, "__file__", str(tmp_path / "jaxhep" / "log.py"))
    assert len(log.commit() or "") == 12
    (tmp_path / "jaxhep" / "log.py").write_text("changed")
    assert (log.commit() or "").endswith("-dirty")
    monkeypatch.setattr(log, "__file__", str(tmp_path / "venv" / "site-packages" / "jaxhep" / "log.py"))
    assert log.commit() is None


def test_a_line_that_was_cut_short_is_left_out(tmp_path):
    (tmp_path / "log.jsonl").write_text(json.dumps({"step": 1, "loss": 0.5}) + '\n{"step": 2, "lo')
    assert log.read_log(tmp_path) == [{"step": 1, "loss": 0.5}]
