"""Files written aside: whole, or not there."""

import json
import os

import pytest

from jaxhep.files import aside, write_json


def test_a_block_that_ends_well_replaces_the_file(tmp_path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with aside(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
        assert partial.parent == tmp_path and partial.name.startswith(".") and str(os.getpid()) in partial.name
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("old", [None, "old"])
def test_a_block_that_fails_leaves_nothing_and_the_old_file_stays(tmp_path, failure, old) -> None:
    path = tmp_path / "a.txt"
    if old:
        path.write_text(old)

    def write() -> None:
        with aside(path) as partial:
            partial.write_text("half")
            raise failure("stopped")

    with pytest.raises(failure, match="stopped"):
        write()
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == ([("a.txt", "old")] if old else [])


def test_a_block_that_writes_nothing_or_to_no_folder_is_an_error(tmp_path) -> None:
    with pytest.raises(FileNotFoundError), aside(tmp_path / "a.txt"):
        pass
    with pytest.raises(FileNotFoundError):
        write_json(tmp_path / "nowhere" / "a.json", {})
    assert not list(tmp_path.iterdir())


def test_json_is_written_whole_or_refused(tmp_path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": [1, 2.5]})
    assert json.loads(path.read_text()) == {"a": [1, 2.5]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": [1, 2.5]}
    assert list(tmp_path.iterdir()) == [path]
