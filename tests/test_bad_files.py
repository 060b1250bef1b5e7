"""Files that cannot be used stop the run in one line that names them, and leave nothing behind."""

import shutil

import numpy as np
import pytest
from conftest import made_up_events, write_events

from jaxhep import prepare
from jaxhep.errors import BadInput
from jaxhep.manifest import read_manifest


def damaged(columns_, **changes):
    return {name: changes.get(name, values) for name, values in columns_.items()} | changes


def nan_at(values, index, value=np.nan):
    values = values.copy()
    values.flat[index] = value
    return values


BAD = made_up_events(40, 9)
CASES = {
    "missing branch": (lambda: {n: v for n, v in BAD.items() if n != "en3d"}, r"no branch 'en3d'"),
    "cell count": (
        lambda: damaged(BAD, edep_cell=BAD["edep_cell"][:, :72]),
        "holds 72 values per event, wanted 1296",
    ),
    "cell type": (
        lambda: damaged(BAD, edep_cell=BAD["edep_cell"].astype(np.int16)),
        "holds int16, wanted float32",
    ),
    "NaN cell": (
        lambda: damaged(BAD, en3d=BAD["en3d"] * 0 + 500, edep_cell=nan_at(BAD["edep_cell"], 1300)),
        "edep_cell is nan in cell 4 near entry 1",
    ),
    "negative cell": (
        lambda: damaged(BAD, en3d=BAD["en3d"] * 0 + 500, edep_cell=nan_at(BAD["edep_cell"], 1300, -5)),
        "edep_cell is -5.0 in cell 4",
    ),
    "NaN energy": (lambda: damaged(BAD, en3d=nan_at(BAD["en3d"], 3)), "en3d is nan GeV at entry 3"),
    "negative energy": (
        lambda: damaged(BAD, en3d=nan_at(BAD["en3d"], 3, -1)),
        r"en3d is -1.0 GeV at entry 3",
    ),
    "unit": (lambda: damaged(BAD, edep_cell=BAD["edep_cell"] / 1000), "cell_unit=GeV would fit"),
    "empty selection": (
        lambda: damaged(BAD, en3d=BAD["en3d"] / 1000, edep_cell=BAD["edep_cell"] / 1000),
        "selection is empty|no electrons in the train split",
    ),
    "no entries": (
        lambda: {name: values[:0] for name, values in BAD.items()},
        "no electrons in the train split",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_files_stop_with_one_line_and_leave_nothing(config, tmp_path, case):
    make, message = CASES[case]
    path = write_events(tmp_path / "bad.root", make())
    config.data.electrons = str(path)
    with pytest.raises(BadInput, match=message) as caught:
        prepare.prepare(config, quiet=True)
    assert "\n" not in str(caught.value)
    assert "bad.root" in str(caught.value)
    assert not list((tmp_path / "prepared").glob("*.partial"))


def test_files_that_differ_are_noticed(config, samples, tmp_path):
    write_events(tmp_path / "b.root", BAD | {"edep_cell": BAD["edep_cell"][:, :1295]})
    config.data.electrons = f"{samples}/el.root,{tmp_path}/b.root"
    with pytest.raises(BadInput, match=r"b.root: branch 'edep_cell' holds 1295 values"):
        prepare.prepare(config, quiet=True)


def test_bad_files_can_be_skipped_and_are_named(config, samples, tmp_path):
    write_events(
        tmp_path / "b.root",
        BAD | {"edep_cell": nan_at(BAD["edep_cell"], 39 * 1296), "en3d": BAD["en3d"] * 0 + 500},
    )
    (tmp_path / "c.root").write_bytes(b"")
    good = read_manifest(prepare.prepare(config, quiet=True))
    config.data.electrons = f"{samples}/el.root,{tmp_path}/b.root,{tmp_path}/c.root"
    config.data.skip_bad = True
    found = read_manifest(prepare.prepare(config, quiet=True))
    assert found["splits"] == good["splits"]
    assert sorted(path.rsplit("/", 1)[1] for path in found["skipped"]) == ["b.root", "c.root"]


def test_a_class_or_its_files_missing(config, samples):
    config.data.protons = ""
    with pytest.raises(BadInput, match=r"config.data.protons is empty: a class is missing"):
        prepare.prepare(config, quiet=True)
    config.data.protons = config.data.electrons
    with pytest.raises(BadInput, match=r"el.root: named both as electrons and as protons"):
        prepare.prepare(config, quiet=True)


def test_wrong_names_offer_the_nearest(config):
    config.data.recipe = "mc_200_200"
    with pytest.raises(BadInput, match=r"nearest: 'mc_200_2000'"):
        prepare.prepare(config, quiet=True)
    config.data.update({"recipe": "mc_200_2000", "cell_unit": "Mev"})
    with pytest.raises(BadInput, match=r"cell_unit is 'Mev'.*nearest: 'MeV'"):
        prepare.prepare(config, quiet=True)


def test_a_full_disk_is_refused_before_writing(config, monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 1000))
    with pytest.raises(BadInput, match="GB needed for prepared columns"):
        prepare.prepare(config, quiet=True)
    assert not [path for path in (tmp_path / "prepared").iterdir() if path.is_dir()]
