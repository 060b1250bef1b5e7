"""The four data sets of the AMS study: which events, which labels, which splits.

Energies in GeV. A band takes its events to splits by fractions; the fraction is decided by a hash of label and
event identity, so that more files move no event from one split to another.
"""

from typing import NamedTuple

from jaxhep.errors import one_of


class Band(NamedTuple):
    """Events with low <= energy < high (<= in the last band) and the fractions that go to each split."""

    low: float
    high: float
    fractions: dict[str, float]


class Recipe(NamedTuple):
    """A data set: the energy that is cut on, its bands, where labels come from, the ranges tested."""

    description: str
    energy: str  # branch that is cut on and that ranges refer to: "en3d" (reconstructed) or "mom" (generated)
    bands: tuple[Band, ...]
    label: str  # "file": electrons and protons in separate files; "trd": one sample, labelled by a TRD branch
    track: bool  # events must have the five tracker variables
    ranges: dict[str, tuple[float, float]]  # name of a test range -> its energies
    simulated: dict[str, tuple[float, float]]  # true energies that the simulation draws, so that every range is filled


THREE = {"train": 0.6, "validation": 0.2, "test": 0.2}
BELOW_1_TEV = Band(200.0, 1000.0, {"train": 0.5, "test": 0.5})
ABOVE_1_TEV = Band(1000.0, 2000.0, {"validation": 0.5, "test": 0.5})
WIDE = {"electron": (150.0, 2500.0), "proton": (400.0, 20000.0)}  # a proton shows a fraction of its energy
BOTH_RANGES = {"0.2-1 TeV": (200.0, 1000.0), "1-2 TeV": (1000.0, 2000.0)}

RECIPES = {
    "mc_200_600": Recipe(
        "simulation, generated 200-600 GeV, 60/20/20",
        "mom", (Band(200.0, 600.0, THREE),), "file", False, {"0.2-0.6 TeV": (200.0, 600.0)},
        {"electron": (200.0, 600.0), "proton": (200.0, 600.0)},
    ),
    "mc_200_2000": Recipe(
        "simulation, reconstructed 200-2000 GeV: trained below 1 TeV, validated above, tested in both",
        "en3d", (BELOW_1_TEV, ABOVE_1_TEV), "file", False, BOTH_RANGES, WIDE,
    ),
    "mc_200_2000_track": Recipe(
        "as mc_200_2000, with the five tracker variables",
        "en3d", (BELOW_1_TEV, ABOVE_1_TEV), "file", True, BOTH_RANGES, WIDE,
    ),
    "flight_50_70": Recipe(
        "flight data, reconstructed 50-70 GeV, labelled by the TRD, 60/20/20",
        "en3d", (Band(50.0, 70.0, THREE),), "trd", False, {"50-70 GeV": (50.0, 70.0)},
        {"electron": (40.0, 90.0), "proton": (70.0, 1000.0)},
    ),
}  # fmt: skip


def find_recipe(name: str) -> Recipe:
    """Return a recipe by name. Raises BadInput for an unknown one."""
    return RECIPES[one_of(name, RECIPES, "config.data.recipe")]


def all_to_test(recipe: Recipe, label: str = "file") -> Recipe:
    """Return the recipe that keeps every event whatever its energy, all in the test split: for scoring files."""
    everything = Band(0.0, 1e12, {"test": 1.0})  # GeV; finite, as it is written to JSON
    return recipe._replace(
        description=f"every event, scored; ranges of: {recipe.description}", bands=(everything,), label=label
    )
