"""Spacepoints from files to columns: layouts, cuts, order, splits, units, and what can be wrong with a file."""

import os

import h5py
import numpy as np
import pytest
from conftest import made_up_annihilations

from jaxhep import columns, prepare, prepared
from jaxhep.alpha_g import features, layouts, production
from jaxhep.errors import BadInput
from jaxhep.manifest import read_manifest
from jaxhep.records import SPLITS

WRITERS = {"root": production.write_root, "parquet": production.write_parquet, "h5": production.write_hdf5}


def write(path, events, chunk=90):
    """Write made-up columns in several chunks, in the layout of the file's ending."""
    ends = np.cumsum(events["count"])

    def chunks():
        for first in range(0, len(ends), chunk):
            last = min(first + chunk, len(ends))
            rows, points = slice(first, last), slice(ends[first - 1] if first else 0, ends[last - 1])
            flat = {name: events[name][points] for name in ("points", "amplitude")}
            yield flat | {name: values[rows] for name, values in events.items() if name not in flat}

    WRITERS[path.suffix[1:]](path, chunks())
    return path


def rows_of(config):
    """Return all prepared events, ordered by their vertex z, whatever split they are in."""
    folder = prepare.prepare(config, quiet=True)
    splits = [columns.open_columns(folder, split) for split in SPLITS]
    together = {name: np.concatenate([split[name] for split in splits]) for name in splits[0]}
    order = np.argsort(together["vertex"][:, 2])
    return {name: values[order] for name, values in together.items()}


@pytest.mark.parametrize("ending", WRITERS)
def test_every_layout_gives_the_events_that_were_written(ending, vertex_config, tmp_path):
    events = made_up_annihilations(250, 1)
    vertex_config.data.files = str(write(tmp_path / f"a.{ending}", events))
    vertex_config.data.stored_points = 140
    found = rows_of(vertex_config)
    order, ends = np.argsort(events["vertex"][:, 2]), np.cumsum(events["count"])
    np.testing.assert_allclose(found["vertex"], events["vertex"][order], atol=1e-4)
    np.testing.assert_array_equal(found["count"], events["count"][order])
    for row, event in enumerate(order[::17]):
        wanted = events["points"][ends[event] - events["count"][event] : ends[event]]
        stored = features.decode_points(found["points"][17 * row])
        np.testing.assert_allclose(stored[: len(wanted)], wanted, atol=0.5 / features.CODES_PER_MM + 1e-3)
        assert not stored[len(wanted) :].any()
    if ending != "h5":
        np.testing.assert_array_equal(found["charged_pions"], events["charged_pions"][order])
        np.testing.assert_array_equal(found["event"], events["event"][order])


@pytest.mark.parametrize("ending", WRITERS)
def test_a_file_is_read_from_any_entry(ending, tmp_path):
    events = made_up_annihilations(200, 2)
    file = layouts.open_file(write(tmp_path / f"a.{ending}", events, chunk=64), "spacepoints")
    whole = layouts.read_events(file, 0, 200)
    part = layouts.read_events(file, 70, 141)
    np.testing.assert_array_equal(part.counts, whole.counts[70:141])
    np.testing.assert_array_equal(part.vertex, whole.vertex[70:141])
    ends = np.cumsum(whole.counts)
    np.testing.assert_array_equal(part.points, whole.points[ends[69] : ends[140]])
    np.testing.assert_array_equal(part.amplitude, whole.amplitude[ends[69] : ends[140]])


@pytest.mark.parametrize("width", layouts.COLUMNS)
def test_hdf5_has_four_widths(width, tmp_path):
    """x, y, z; true and Helix Fit z or x, y, z; and the amplitude where there is one."""
    rows = np.zeros((3, 4, width), np.float32)
    rows[:, :2] = np.arange(1, width + 1)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = rows
    found = layouts.read_events(layouts.open_file(tmp_path / "a.h5", ""), 0, 3)
    np.testing.assert_array_equal(found.counts, 2)
    np.testing.assert_array_equal(found.points, np.tile([1, 2, 3], (6, 1)))
    if width < 9:
        assert np.isnan(found.vertex[:, :2]).all()
        assert (found.vertex[:, 2] == 4).all()
        assert (found.helix_fit[:, 2] == 5).all()
    else:
        np.testing.assert_array_equal(found.vertex, np.tile([4, 5, 6], (3, 1)))
        np.testing.assert_array_equal(found.helix_fit, np.tile([7, 8, 9], (3, 1)))
    assert (found.amplitude is not None) == (width in (6, 10))
    if found.amplitude is not None:
        assert (found.amplitude == width).all()


def test_radius_cut_order_and_number_of_points(vertex_config, tmp_path):
    events = made_up_annihilations(60, 3)
    far = np.flatnonzero(np.arange(len(events["points"])) % 5 == 0)
    events["points"][far, :2] *= 3  # out of the gas
    vertex_config.data.files = str(write(tmp_path / "a.root", events))
    vertex_config.data.stored_points = 12
    vertex_config.inputs.points = 12
    by_amplitude = rows_of(vertex_config)
    vertex_config.data.order = "radius"
    by_radius = rows_of(vertex_config)
    starts = np.cumsum(events["count"]) - events["count"]
    for row, event in enumerate(np.argsort(events["vertex"][:, 2])):
        own = slice(starts[event], starts[event] + events["count"][event])
        points, amplitude = events["points"][own], events["amplitude"][own]
        radius = np.hypot(points[:, 0], points[:, 1])
        inside = (radius >= 109) & (radius <= 190)
        assert by_amplitude["points_found"][row] == inside.sum()
        assert by_amplitude["count"][row] == min(12, inside.sum())
        for found, value in ((by_amplitude, -amplitude), (by_radius, radius)):
            wanted = points[inside][np.argsort(value[inside], kind="stable")][:12]
            np.testing.assert_allclose(features.decode_points(found["points"][row])[: len(wanted)], wanted, atol=0.02)


def test_events_without_points_or_vertex_are_counted(vertex_config, tmp_path):
    events = made_up_annihilations(50, 4)
    ends = np.cumsum(events["count"])
    events["points"][: ends[3], :2] *= 5  # four events with nothing in the gas
    events["vertex"][10:13] = np.nan
    vertex_config.data.files = str(write(tmp_path / "a.root", events))
    manifest = read_manifest(prepare.prepare(vertex_config, quiet=True))
    assert manifest["dropped"] == {"no spacepoint within the cut in radius and z": 4, "no true vertex": 3}
    assert sum(split["events"] for split in manifest["splits"].values()) == 43


@pytest.mark.parametrize("ending", ["root", "h5"])
def test_more_files_move_no_event_between_splits(ending, vertex_config, tmp_path):
    """By run and event number, or, in HDF5, by the content of the event."""

    def splits():
        folder = prepare.prepare(vertex_config, quiet=True)
        return {float(z): split for split in SPLITS for z in columns.open_columns(folder, split)["vertex"][:, 2]}

    vertex_config.data.files = str(write(tmp_path / f"a.{ending}", made_up_annihilations(200, 5)))
    before = splits()
    write(tmp_path / f"0.{ending}", made_up_annihilations(100, 6, run=2))
    vertex_config.data.files = str(tmp_path / f"*.{ending}")
    after = splits()
    assert len(after) == 300
    assert {z: after[z] for z in before} == before
    numbers = [list(before.values()).count(split) / 200 for split in SPLITS]
    np.testing.assert_allclose(numbers, vertex_config.data.split, atol=0.12)


def test_flattening_leaves_the_same_density_everywhere(vertex_config, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "Z_BINS", 4)
    events = made_up_annihilations(4000, 7)
    events["vertex"][:, 2] = 400 * np.sqrt(np.random.default_rng(1).random(4000))  # rising with z
    vertex_config.data.update({"files": str(write(tmp_path / "a.root", events, 4000)), "flatten_z": True})
    vertex_config.data.z_range_mm = (0.0, 400.0)
    counts = np.histogram(rows_of(vertex_config)["vertex"][:, 2], np.linspace(0, 400, 5))[0]
    before = np.histogram(events["vertex"][:, 2], np.linspace(0, 400, 5))[0]
    assert before[3] > 5 * before[0]
    np.testing.assert_allclose(counts, before[0], rtol=0.2)
    empty = events | {
        "points": events["points"] * np.where(np.arange(4000) % 2, 1, 0.5).repeat(events["count"])[:, None]
    }
    vertex_config.data.files = str(write(tmp_path / "b.root", empty, 4000))  # half of the events have no points left
    kept = np.histogram(rows_of(vertex_config)["vertex"][:, 2], np.linspace(0, 400, 5))[0]
    np.testing.assert_allclose(kept, counts / 2, rtol=0.25)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    vertex_config.data.update({"files": f"{tmp_path}/b.root,{tmp_path}/a.parquet", "skip_bad": True})
    assert len(rows_of(vertex_config)["vertex"]) == kept.sum()
    vertex_config.data.files = str(tmp_path / "a.root")
    vertex_config.data.z_range_mm = (-2000.0, 400.0)
    with pytest.raises(BadInput, match=r"flatten_z would keep 0 of 4000 events.*narrow config.data.z_range_mm"):
        prepare.prepare(vertex_config, quiet=True)


def test_metres_are_noticed_and_converted(vertex_config, tmp_path):
    events = made_up_annihilations(40, 8)
    events["points"], events["vertex"] = events["points"] / 1000, events["vertex"] / 1000
    vertex_config.data.files = str(write(tmp_path / "a.parquet", events))
    with pytest.raises(
        BadInput, match=r"a\.parquet: the median radius of spacepoints is .* --config.data.unit=m would"
    ):
        prepare.prepare(vertex_config, quiet=True)
    vertex_config.data.flatten_z = True
    with pytest.raises(BadInput, match=r"--config.data.unit=m would"):
        prepare.prepare(vertex_config, quiet=True)
    vertex_config.data.update({"flatten_z": False, "unit": "m"})
    found = rows_of(vertex_config)
    np.testing.assert_allclose(found["vertex"][:, 2], 1000 * np.sort(events["vertex"][:, 2]), rtol=1e-5)
    assert features.decode_points(found["points"]).max() > 100


def test_all_of_other_files_is_scored(vertex_config, tmp_path):
    write(tmp_path / "other.h5", made_up_annihilations(70, 9))
    vertex_config.data.files = str(tmp_path / "*.h5")
    manifest = read_manifest(prepared.prepare_for_scoring(vertex_config, quiet=True))
    assert {name: split["events"] for name, split in manifest["splits"].items()} == {
        "train": 0, "validation": 0, "test": 70,
    }  # fmt: skip
    vertex_config.data.files = ""
    with pytest.raises(BadInput, match=r"no files named, wanted --config\.data\.files"):
        prepared.prepare_for_scoring(vertex_config, quiet=True)


def test_files_are_closed_when_they_were_read(vertex_config, tmp_path):
    """There may be more of them than a process may have open."""
    import resource

    for number in range(40):
        write(tmp_path / f"{number}.{'h5' if number % 2 else 'parquet'}", made_up_annihilations(10, number, run=number))
    vertex_config.data.files = f"{tmp_path}/*.h5,{tmp_path}/*.parquet"
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (30 + len(os.listdir("/proc/self/fd")), before[1]))
    try:
        assert len(rows_of(vertex_config)["vertex"]) == 400
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_prepared_data_of_another_selection_are_refused(vertex_config):
    folder = prepare.prepare(vertex_config, quiet=True)
    vertex_config.data.update({"prepared": str(folder), "order": "radius"})
    with pytest.raises(BadInput, match="prepared with order amplitude, wanted radius"):
        prepare.prepare(vertex_config, quiet=True)
