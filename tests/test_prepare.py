"""ROOT -> columns: nothing lost, nothing moved, bounded, atomic, resumable, and wrong input named."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, made_up_events, write_events

from jaxhep import columns, prepare
from jaxhep.ams_ecal import features, recipes
from jaxhep.errors import BadInput
from jaxhep.manifest import read_manifest
from jaxhep.records import SPLITS


def open_all(folder):
    return {split: columns.open_columns(folder, split) for split in SPLITS}


def identities(split):
    return set(zip(split["label"].tolist(), split["event"].tolist(), strict=True))


def test_codes_are_precise_and_zero_stays_zero():
    energies = np.concatenate([[0.0], np.geomspace(0.01, 8e6, 1295)]).astype(np.float32)[None]
    decoded = features.decode_cells(features.encode_cells(energies, 1.0)).reshape(1, -1)
    assert decoded[0, 0] == 0
    large = energies > 1
    assert np.max(np.abs(decoded / np.maximum(energies, 1e-9) - 1)[large]) < 2.5e-4
    assert np.max(np.abs(decoded - energies)[~large]) < 2.5e-4  # MeV
    swapped = features.encode_cells(energies.astype(">f4"), 1.0)
    np.testing.assert_array_equal(swapped, features.encode_cells(energies, 1.0))
    np.testing.assert_allclose(
        features.encode_cells(energies[:, ::-1] / 1e3, 1e3),
        features.encode_cells(energies[:, ::-1].copy(), 1.0),
        atol=1,
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_energies_that_cannot_be(value):
    cells = np.zeros((3, 1296), np.float32)
    cells[1, 7] = value
    with pytest.raises(BadInput, match=r"f.root: edep_cell is .* in cell 7 near entry 101, wanted a finite energy"):
        features.encode_cells(cells, 1.0, "f.root", 100)


def test_every_event_is_stored_once_with_its_values(config, samples):
    folder = prepare.prepare(config, quiet=True)
    manifest = read_manifest(folder)
    splits = open_all(folder)
    source = {1: made_up_events(1500, 1, "electron"), 0: made_up_events(1500, 2, "proton")}
    kept = 0
    for name, split in splits.items():
        assert len(split["label"]) == manifest["splits"][name]["events"]
        for position in range(0, len(split["label"]), 97):
            label, event = int(split["label"][position]), int(split["event"][position])
            np.testing.assert_allclose(
                features.decode_cells(split["cells"][position]).ravel(),
                source[label]["edep_cell"][event],
                rtol=3e-4,
                atol=3e-4,
            )
            assert split["en3d"][position] == source[label]["en3d"][event]
        kept += len(split["label"])
    wanted = {
        (label, i) for label, s in source.items() for i in np.flatnonzero((s["en3d"] >= 200) & (s["en3d"] <= 2000))
    }
    found = [identities(split) for split in splits.values()]
    assert set.union(*found) == wanted
    assert kept == len(wanted)  # no event twice
    assert sum(manifest["dropped"].values()) == 3000 - kept
    train, validation = splits["train"], splits["validation"]
    assert train["en3d"].max() < 1000 <= validation["en3d"].min()
    low = sum(np.sum(splits[name]["en3d"] < 1000) for name in splits)
    assert len(train["label"]) / low == pytest.approx(0.5, abs=0.05)
    # Classes are mixed, whatever the order of the files.
    assert 0.2 < np.mean(train["label"][:60]) < 0.8


def test_more_files_move_no_event_and_order_of_files_is_nothing(config, samples, tmp_path):
    before = open_all(prepare.prepare(config, quiet=True))
    extra = write_events(tmp_path / "extra.root", made_up_events(700, 3, "electron", run=2))
    config.data.electrons = f"{samples}/el.root,{extra}"
    one = prepare.prepare(config, quiet=True)
    after = open_all(one)
    for name in before:
        # The other file has run 2, and its events come in between.
        old = set(
            zip(
                after[name]["run"].tolist(),
                after[name]["event"].tolist(),
                after[name]["label"].tolist(),
                strict=True,
            )
        )
        assert {(1, event, label) for label, event in identities(before[name])} <= old
    config.data.electrons = f"{extra},{samples}/el.root"
    two = prepare.prepare(config, quiet=True)
    assert one != two
    assert read_manifest(one)["content_hash"] == read_manifest(two)["content_hash"]


def test_buckets_do_not_change_the_columns(config, monkeypatch, tmp_path):
    one = read_manifest(prepare.prepare(config, quiet=True))
    monkeypatch.setattr(columns, "BUCKET_BYTES", 1 << 20)
    monkeypatch.setattr(columns, "BUFFER_BYTES", 1 << 19)
    config.data.folder = str(tmp_path / "again")
    assert read_manifest(prepare.prepare(config, quiet=True))["splits"] == one["splits"]


def test_finished_columns_are_used_again(config, monkeypatch):
    folder = prepare.prepare(config, quiet=True)
    monkeypatch.setattr(features, "read_records", None)
    assert prepare.prepare(config, quiet=True) == folder


def test_changed_file_is_prepared_again(config, samples, tmp_path):
    shutil.copy(samples / "el.root", tmp_path / "el.root")
    config.data.electrons = str(tmp_path / "el.root")
    folder = prepare.prepare(config, quiet=True)
    write_events(tmp_path / "el.root", made_up_events(900, 5))
    assert prepare.prepare(config, quiet=True) != folder


def test_flight_data_are_labelled_by_the_cuts(config, samples, tmp_path):
    electron, proton = made_up_events(600, 1), made_up_events(600, 2, "proton", run=2)
    mixed = {name: np.concatenate([electron[name], proton[name]]) for name in electron}
    scale = 60 / mixed["en3d"]
    mixed["edep_cell"] *= scale[:, None]
    mixed["en3d"] *= scale
    mixed["trd_lik"][:50] = 0.7  # between the cuts
    path = write_events(tmp_path / "iss.root", mixed)
    config.data.update({"recipe": "flight_50_70", "electrons": "", "protons": "", "files": str(path)})
    folder = prepare.prepare(config, quiet=True)
    manifest = read_manifest(folder)
    assert manifest["dropped"]["no label: between the cuts or NaN"] == 50
    for split in open_all(folder).values():
        np.testing.assert_array_equal(split["label"], split["run"] == 1)
    fractions = [manifest["splits"][name]["events"] / 1150 for name in SPLITS]
    np.testing.assert_allclose(fractions, [0.6, 0.2, 0.2], atol=0.05)
    config.data.electrons = "x.root"
    with pytest.raises(BadInput, match="labels one sample itself"):
        prepare.prepare(config, quiet=True)


def test_events_without_a_track_are_left_out_and_counted(config, tmp_path, samples):
    events = made_up_events(400, 1)
    events["Trk_Ecal_Inci_X"][:20], events["Trk_Ecal_Inci_Y"][20:30] = np.nan, -999
    config.data.update({"recipe": "mc_200_2000_track", "electrons": str(write_events(tmp_path / "a.root", events))})
    manifest = read_manifest(prepare.prepare(config, quiet=True))
    inside = (events["en3d"][:30] >= 200) & (events["en3d"][:30] <= 2000)
    assert manifest["dropped"]["no track"] == inside.sum()


def test_generated_energy_recipe_cuts_on_mom(config):
    config.data.recipe = "mc_200_600"
    splits = open_all(prepare.prepare(config, quiet=True))
    assert all(split["mom"].min() >= 200 and split["mom"].max() < 600 for split in splits.values())


def test_the_command_line(config, samples, tmp_path):
    def run(*arguments):
        command = [
            sys.executable,
            "-m",
            "jaxhep.prepare",
            "--config",
            "configs/mlp.py:smoke",
            f"--config.data.folder={tmp_path}/p",
            *arguments,
        ]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    # As earlier versions had it: a line says how it is said today.
    good = run("--electrons", str(samples / "el.root"), f"--protons={samples}/pr.root", "--set", "cell_unit=MeV")
    assert [line for line in good.stderr.splitlines() if line.startswith("note")] == [
        f"note: --electrons is now --config.data.electrons={samples}/el.root",
        f"note: --protons is now --config.data.protons={samples}/pr.root",
        "note: --set is now --config.data.cell_unit=MeV",
    ]
    assert good.returncode == 0, good.stderr
    assert "columns will take about" in good.stdout
    assert (
        json.loads((tmp_path / "p" / os.path.basename(good.stdout.split()[-1]) / "manifest.json").read_text())["recipe"]
        == "mc_200_2000"
    )
    bad = run("--config.data.electrons=nowhere/*.root", "--config.data.protons", str(samples / "pr.root"))
    assert (bad.returncode, bad.stderr.count("\n")) == (2, 1)
    assert bad.stderr == "error: nowhere/*.root: no such file, wanted electron files\n"


@pytest.mark.slow
def test_memory_stays_bounded(tmp_path):
    """Preparing 60,000 events (310 MB in memory) must not need more than a fixed amount above the imports."""
    for species, seed in (("electron", 1), ("proton", 2)):
        columns_ = made_up_events(3000, seed, species)
        tiled = {n: np.concatenate([v] * 10) for n, v in columns_.items()}
        tiled["event"] = np.arange(30000, dtype=np.int32)
        write_events(tmp_path / f"{species}.root", tiled, chunk=2048)
    code = f"""
import resource, sys
from jaxhep import columns, prepare
from jaxhep.config import load_config
columns.BUCKET_BYTES = 8 << 20
config = load_config("configs/mlp.py:smoke")
config.data.electrons, config.data.protons, config.data.folder = "{tmp_path}/electron.root", "{tmp_path}/proton.root", "{tmp_path}/p"
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
prepare.prepare(config, quiet=True)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, "jax" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    grown, jax_there = result.stdout.split()
    assert float(grown) < 300  # MB: buffer 48, buckets 2 x 8, chunks of 10 in flight, uproot's baskets
    assert jax_there == "False"


def test_recipes_split_as_published():
    for recipe in recipes.RECIPES.values():
        for band in recipe.bands:
            assert sum(band.fractions.values()) == pytest.approx(1)
