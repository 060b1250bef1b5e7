"""Files of spacepoints that cannot be used, and selections without sense: one line that says why."""

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from conftest import made_up_annihilations
from test_alpha_g_features import write

from jaxhep import prepare, root
from jaxhep.errors import BadInput
from jaxhep.manifest import read_manifest


def broken(kind, path):
    """Write one file that cannot be used, and return it with the message that it must give."""
    events = made_up_annihilations(20, 1)
    if kind == "nan":
        events["points"][100, 1] = np.nan
        return write(path / "a.root", events), r"a\.root: spacepoint .*nan.* at entry \d+, wanted finite coordinates"
    if kind == "truncated hdf5":
        whole = write(path / "a.h5", events).read_bytes()
        (path / "a.h5").write_bytes(whole[: len(whole) // 2])
        return path / "a.h5", r"a\.h5: not a readable HDF5 file, truncated or damaged"
    if kind == "truncated parquet":
        whole = write(path / "a.parquet", events).read_bytes()
        (path / "a.parquet").write_bytes(whole[: len(whole) // 2])
        return path / "a.parquet", r"a\.parquet: not a readable Parquet file"
    if kind in ("wrong column count", "other dataset"):
        with h5py.File(path / "a.h5", "w") as file:
            file["data" if kind == "wrong column count" else "date"] = np.zeros((5, 10, 7), np.float32)
        if kind == "other dataset":
            return path / "a.h5", r"a\.h5: no dataset 'data', it holds date \(nearest: 'date'\)"
        return (
            path / "a.h5",
            r"a\.h5: dataset 'data' is \(5, 10, 7\) float32, wanted floats .* 5 or 6 or 9 or 10 columns",
        )
    if kind == "missing column":
        parquet.write_table(pa.table({"point_clouds": [1.0], "target": [2.0]}), path / "a.parquet")
        return path / "a.parquet", r"a\.parquet: no column 'point_cloud' \(nearest: 'point_clouds'\)"
    if kind in ("flat points", "other amplitudes", "no run"):
        table = {"point_cloud": [[[1.0, 2.0, 3.0]]], "target": [[1.0, 2.0, 3.0]]}
        table |= {"flat points": {"point_cloud": [[1.0]]}, "other amplitudes": {"amplitude": [[1.0, 2.0]]}}.get(
            kind, {"run": pa.array([None], pa.int32())}
        )
        parquet.write_table(pa.table(table), path / "a.parquet")
        return path / "a.parquet", {
            "flat points": r"column 'point_cloud' holds list<.*>, wanted a list of lists of floats",
            "other amplitudes": r"amplitude and point_cloud differ in length near entry 0",
            "no run": r"column 'run' is empty near entry 0",
        }[kind]
    if kind == "two floats":
        parquet.write_table(pa.table({"point_cloud": [[[1.0, 2.0]]], "target": [[1.0, 2.0, 3.0]]}), path / "a.parquet")
        return path / "a.parquet", r"a\.parquet: target or point_cloud do not hold 3 floats"
    if kind == "no points left":
        events["points"][:, :2] = [80.0, 0.0]
        return write(path / "a.root", events), r"no events in the train split .*20 entries left out: no spacepoint"
    if kind == "another detector":
        events["points"][:, :2] = [20.0, 0.0]
        return write(path / "a.root", events), r"the median radius of spacepoints is 20 mm .* wanted 109 to 190 mm"
    assert kind == "ending"
    (path / "a.txt").write_text("x")
    return path / "a.txt", r"a\.txt: wanted a file ending in \.root, \.h5, \.hdf5, \.parquet"


@pytest.mark.parametrize(
    "kind",
    [
        "nan", "truncated hdf5", "truncated parquet", "wrong column count", "other dataset", "missing column",
        "two floats", "no points left", "another detector", "ending",
    ],
)  # fmt: skip
def test_a_bad_file_is_one_clear_line(kind, vertex_config, tmp_path):
    path, message = broken(kind, tmp_path)
    vertex_config.data.files = str(path)
    with pytest.raises(BadInput, match=message) as error:
        prepare.prepare(vertex_config, quiet=True)
    assert "\n" not in str(error.value)
    folder = tmp_path / "prepared"
    if kind == "no points left":
        return  # a data set, though an empty one: what was left out is on record
    assert not folder.exists() or not [p for p in folder.iterdir() if p.suffix != ".lock"]


def test_a_missing_branch_and_a_missing_file_are_named(vertex_config, tmp_path):
    root.write_tree(tmp_path / "a.root", "spacepoints", {"vertex_x": np.float32}, iter([{"vertex_x": np.zeros(3)}]))
    vertex_config.data.files = str(tmp_path / "a.root")
    with pytest.raises(BadInput, match=r"a\.root: no branch 'spacepoint_x'"):
        prepare.prepare(vertex_config, quiet=True)
    vertex_config.data.files = str(tmp_path / "b.parquet")
    with pytest.raises(BadInput, match=r"b\.parquet: no such file, wanted spacepoints"):
        prepare.prepare(vertex_config, quiet=True)


def test_a_bad_file_may_be_skipped_and_is_recorded(vertex_config, tmp_path):
    write(tmp_path / "a.parquet", made_up_annihilations(100, 1))
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    vertex_config.data.update({"files": str(tmp_path / "*.parquet"), "skip_bad": True})
    manifest = read_manifest(prepare.prepare(vertex_config, quiet=True))
    assert list(manifest["skipped"]) == [str(tmp_path / "b.parquet")]
    assert sum(split["events"] for split in manifest["splits"].values()) == 100


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("order", "amplitud", "config.data.order is 'amplitud'.*nearest: 'amplitude'"),
        ("unit", "cm", "config.data.unit is 'cm', wanted one of mm, m"),
        ("split", (0.9, 0.0, 0.1), "config.data.split is .* wanted three weights above 0"),
        ("split", (0.5, 0.5), "config.data.split is .* wanted three weights above 0"),
        ("radius_mm", (109.0, 1500.0), "config.data.radius_mm is .* wanted 0 to 1170 mm"),
        ("radius_mm", (190.0, 109.0), "config.data.radius_mm"),
        ("stored_points", 0, "config.data.stored_points is 0"),
    ],
)
def test_a_selection_without_sense_is_refused(field, value, message, vertex_config):
    vertex_config.data[field] = value
    with pytest.raises(BadInput, match=message):
        prepare.prepare(vertex_config, quiet=True)
