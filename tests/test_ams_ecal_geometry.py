"""Where tracks cross the layers of the AMS ECAL: one known track, and the shower axes of Geant4 files."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxhep.ams_ecal import geometry

DATA = Path(__file__).parents[1].parent / "shared" / "data"


def test_layout() -> None:
    assert geometry.MEASURES_X.sum() == 8
    assert not geometry.MEASURES_X[[0, 1, 16, 17]].any()
    assert geometry.LAYER_CENTRES_MM[0] == pytest.approx(4.625)
    assert geometry.LAYER_CENTRES_MM[-1] == pytest.approx(166.5 - 4.625)
    assert (geometry.CELL_EDGES_MM[0], geometry.CELL_EDGES_MM[-1]) == (-324.0, 324.0)


@pytest.mark.parametrize("numbers", [np, jnp])
def test_straight_track_with_a_known_answer(numbers) -> None:
    """A slope of 0.3 along x and 0.4 along y from (1, -2) cm, given 5 cm in front of the calorimeter."""
    values = [1.0, -2.0, -5.0, np.arctan(0.5), np.arctan2(0.4, 0.3)]
    positions = geometry.crossed_positions(*(numbers.asarray([[value]], dtype="float32") for value in values))
    assert positions.shape == (1, 18)
    # layer 0 measures y: -20 mm + (4.625 + 50) mm 0.4; layer 2 measures x: 10 mm + (23.125 + 50) mm 0.3
    assert float(positions[0, 0]) == pytest.approx(-20 + 54.625 * 0.4, abs=1e-3)
    assert float(positions[0, 2]) == pytest.approx(10 + 73.125 * 0.3, abs=1e-3)
    assert float(positions[0, 17]) == pytest.approx(-20 + 211.875 * 0.4, abs=1e-3)
    assert float(geometry.crossed_cells(positions)[0, 2]) == (324 + 10 + 73.125 * 0.3) // 9


def test_crossed_cells_agree_with_geant4_shower_axes() -> None:
    uproot = pytest.importorskip("uproot")
    path = DATA / "geant4_t1_electron.root"
    if not path.exists():
        pytest.skip(f"no Geant4 sample at {path}")
    track = [f"Trk_Ecal_Inci_{name}" for name in ("X", "Y", "Z", "Zenith", "Azimutal")]
    with uproot.open(path) as file:
        branches = file["t1"].arrays(["edep_cell", *track], library="np")
    cells = branches["edep_cell"].reshape(-1, 18, 72).astype(np.float64)
    positions = geometry.crossed_positions(*(branches[name] for name in track))
    # In the layers around the maximum, where the core is most of the energy: median and spread of axis - track, mm.
    core = np.maximum(cells - 0.05 * cells.max(2, keepdims=True), 0)
    centres = (geometry.CELL_EDGES_MM[1:] + geometry.CELL_EDGES_MM[:-1]) / 2
    axis = (core * centres).sum(2) / np.maximum(core.sum(2), 1e-9)
    difference = (axis - positions)[:, 5:15]
    assert np.abs(np.median(difference, axis=0)).max() < 0.3
    assert np.median(np.abs(difference), axis=0).max() < 1.5
    same = np.abs(cells.argmax(2) - geometry.crossed_cells(positions))[:, 5:15]
    assert (same <= 1).mean() > 0.98
    assert (same == 0).mean() > 0.8
