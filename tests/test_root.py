"""Reading ROOT files: what is there is read, what cannot be used is named in one line."""

import awkward as ak
import numpy as np
import pytest
import uproot
from conftest import made_up_events, types_of, write_events

from jaxhep import root
from jaxhep.errors import BadInput

CELLS = 1296


def read_all(path, branch="edep_cell", tree="t1"):
    opened = root.open_tree(path, tree)
    root.require_cells(opened, branch, CELLS)
    return np.concatenate(
        [np.asarray(values, np.float32) for _, values in root.read_cells(opened, branch, CELLS, 0, opened.entries)]
    )


def test_written_trees_are_read_back_exactly(tmp_path):
    columns = made_up_events(5000, 0)
    path = write_events(tmp_path / "a.root", columns, chunk=1700)
    with uproot.open(path) as file:
        assert file.classname_of("t1") == "TTree"
    np.testing.assert_array_equal(read_all(path), columns["edep_cell"])
    scalars = root.read_scalars(root.open_tree(path, "t1"), ["en3d", "Trk_Ecal_Inci_X", "event"], 100, 4000)
    np.testing.assert_array_equal(scalars["en3d"], columns["en3d"][100:4000])
    np.testing.assert_array_equal(scalars["Trk_Ecal_Inci_X"], columns["Trk_Ecal_Inci_X"][100:4000, 0])
    np.testing.assert_array_equal(scalars["event"], columns["event"][100:4000])


@pytest.mark.parametrize("start", [0, 300, 512, 777])
def test_cells_from_any_entry(tmp_path, start):
    columns = made_up_events(1200, 0)
    opened = root.open_tree(write_events(tmp_path / "a.root", columns), "t1")
    parts = list(root.read_cells(opened, "edep_cell", CELLS, start, 1100))
    assert parts[0][0] == start
    np.testing.assert_array_equal(
        np.concatenate([np.asarray(v, np.float32) for _, v in parts]), columns["edep_cell"][start:1100]
    )


def test_other_layouts_of_the_same_cells_are_read(tmp_path):
    columns = made_up_events(40, 0)
    cells = columns["edep_cell"]
    with uproot.recreate(tmp_path / "shaped.root") as file:
        file.mktree("t1", {"edep_cell": np.dtype((np.float64, (18, 72)))})
        file["t1"].extend({"edep_cell": cells.reshape(-1, 18, 72).astype(np.float64)})
    with uproot.recreate(tmp_path / "jagged.root") as file:
        file.mktree("t1", {"edep_cell": "var * float32"})
        file["t1"].extend({"edep_cell": ak.Array(cells.tolist())})
    with uproot.recreate(tmp_path / "rntuple.root") as file:
        file["t1"] = {"edep_cell": cells, "en3d": columns["en3d"]}
    with uproot.open(tmp_path / "rntuple.root") as file:
        assert "RNTuple" in file.classname_of("t1")
    for name in ("shaped", "jagged", "rntuple"):
        np.testing.assert_array_equal(read_all(tmp_path / f"{name}.root"), cells, err_msg=name)
    scalars = root.read_scalars(root.open_tree(tmp_path / "rntuple.root", "t1"), ["en3d"], 5, 30)
    np.testing.assert_array_equal(scalars["en3d"], columns["en3d"][5:30])


def test_element_zero_of_jagged_arrays_and_nan_where_there_is_none(tmp_path):
    with uproot.recreate(tmp_path / "j.root") as file:
        file.mktree("t1", {"x": "var * float32"})
        file["t1"].extend({"x": ak.Array([[1.0, 2.0], [], [3.0]])})
    values = root.read_scalars(root.open_tree(tmp_path / "j.root", "t1"), ["x"], 0, 3)["x"]
    np.testing.assert_array_equal(values, [1.0, np.nan, 3.0])


def test_expand_names_what_is_missing(tmp_path):
    write_events(tmp_path / "electrons.root", made_up_events(3, 0))
    (tmp_path / "empty").mkdir()
    assert root.expand(f"{tmp_path}/*.root, {tmp_path}", "files") == [tmp_path / "electrons.root"]  # not twice
    with pytest.raises(
        BadInput, match=r"electron.root: no such file, wanted electron files \(nearest: 'electrons.root'\)"
    ):
        root.expand(f"{tmp_path}/electron.root", "electron files")
    with pytest.raises(BadInput, match=r"empty: folder without files \*\.root"):
        root.expand(f"{tmp_path}/empty", "files")
    with pytest.raises(BadInput, match="no such file, wanted files"):
        root.expand(f"{tmp_path}/*.rot", "files")


def test_files_that_are_no_root_files(tmp_path):
    (tmp_path / "text.root").write_text("not ROOT")
    (tmp_path / "zero.root").write_bytes(b"")
    for name in ("text", "zero"):
        with pytest.raises(BadInput, match=rf"{name}.root: not a readable ROOT file"):
            root.open_tree(tmp_path / f"{name}.root", "t1")
    with pytest.raises(BadInput, match=r"gone.root: no such file"):
        root.open_tree(tmp_path / "gone.root", "t1")


def test_truncated_files_are_named_wherever_the_cut_lies(tmp_path):
    whole = write_events(tmp_path / "whole.root", made_up_events(2000, 0)).read_bytes()
    for fraction in (0.01, 0.5, 0.9, 0.999):
        path = tmp_path / "cut.root"
        path.write_bytes(whole[: int(len(whole) * fraction)])
        with pytest.raises(BadInput, match=r"cut.root: .*truncated"):
            read_all(path)


def test_wrong_tree_and_branch_offer_the_nearest(tmp_path):
    path = write_events(tmp_path / "a.root", made_up_events(3, 0))
    with pytest.raises(BadInput, match=r"a.root: no tree 't2' in this file, it holds t1 \(nearest: 't1'\)"):
        root.open_tree(path, "t2")
    with pytest.raises(BadInput, match=r"no branch 'edep_cels' in tree 't1' \(nearest: 'edep_cell'\)"):
        root.require(root.open_tree(path, "t1"), ["edep_cels"])


def test_wrong_cell_count_and_type(tmp_path):
    columns = made_up_events(10, 0)
    short = columns | {"edep_cell": columns["edep_cell"][:, :1295]}
    with pytest.raises(BadInput, match="holds 1295 values per event, wanted 1296"):
        read_all(write_events(tmp_path / "a.root", short))
    integer = columns | {"edep_cell": columns["edep_cell"].astype(np.int32)}
    with pytest.raises(BadInput, match="holds int32, wanted float32 or float64"):
        read_all(write_events(tmp_path / "b.root", integer))
    with uproot.recreate(tmp_path / "c.root") as file:
        file.mktree("t1", {"edep_cell": "var * float32"})
        file["t1"].extend({"edep_cell": ak.Array([[0.0] * 1296, [0.0] * 12])})
    with pytest.raises(BadInput, match="holds 12 to 1296 values per event, wanted 1296"):
        read_all(tmp_path / "c.root")


def test_a_failed_write_leaves_nothing(tmp_path):
    columns = made_up_events(10, 0)

    def chunks():
        yield columns
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        root.write_tree(tmp_path / "a.root", "t1", types_of(columns), chunks())
    assert list(tmp_path.iterdir()) == []


def test_odd_real_files_give_one_line(shared):
    for path in sorted((shared / "root_odd").glob("*.root")):
        with pytest.raises(BadInput, match=path.name):
            root.require(root.open_tree(path, "t1"), ["edep_cell"])
    # A valid header that claims 10^8 entries in 2 kB must not be believed before it is read.
    path = next((shared / "root_odd").glob("*multicluster*"))
    with uproot.open(path) as file:
        name = file.keys(cycle=False)[0]
    opened = root.open_tree(path, name)
    with pytest.raises(BadInput, match=path.name):
        root.require(opened, ["edep_cell"])
