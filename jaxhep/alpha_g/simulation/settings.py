"""Every choice of the chamber's simulation, and what of it cannot be simulated."""

from typing import NamedTuple

import numpy as np

from jaxhep.alpha_g.geometry import FIELD_TESLA, HALF_LENGTH_MM
from jaxhep.errors import BadInput, one_of

SPECIES = ("annihilation", "cosmic")


class Settings(NamedTuple):
    """Every choice of the simulation. Hashable: each distinct value may compile its own functions."""

    # What annihilates, and where.
    annihilation_on: str = "hydrogen"  # "hydrogen", or "wall": nuclei of the trap's wall, which absorb pions
    vertex: str = "disc"  # "disc": uniform within the wall's radius; "wall": on the wall
    z_range_mm: tuple[float, float] = (-HALF_LENGTH_MM, HALF_LENGTH_MM)  # uniform; narrower: around the trap
    # Field and material.
    field_tesla: float = FIELD_TESLA  # bends the tracks; the drift table stays that of 1 T
    radiation_lengths: float = 0.36  # of the material before the gas
    material_g_cm2: float = 5.1
    material_shares: tuple[float, float] = (0.5, 0.5)  # of trap electrodes and of cryostat and inner wall
    pair_threshold_mev: float = 20.0  # photon energy at which pairs are half as frequent as at high energies
    proton_chance: float = 0.6  # that a pion absorbed in the material leaves a proton
    proton_energy_mev: float = 60.0  # mean kinetic energy of these protons
    outer_radiation_lengths: float = 0.25  # of the outer wall, where photons convert too
    return_radius_mm: float = 250.0  # circles that stay within come back through the outer wall
    # Ionisation and readout.
    clusters_per_cm: float = 1.3  # of a fast pion or muon, that give signals of their own
    electron_clusters_per_cm: float = 4.1
    velocity_power: float = 1.0  # clusters grow as beta to minus twice this
    cluster_power: float = 1.0  # clusters of n electrons are as frequent as n to minus this
    most_electrons: int = 6  # of a cluster
    diffusion_mm: float = 0.2  # per square root of a cm of drift, across it
    longitudinal_diffusion: float = 0.5  # along the drift, relative to that
    time_spread_ns: float = 14.0  # of the signals of single electrons
    merging_mm: float = 12.0  # hits of a wire and time bin within such a window of z are one
    z_resolution_mm: float = 1.0  # centroid of the pads' signals
    inefficiency: float = 0.0  # chance that a spacepoint is missed
    noise_points: float = 0.0  # mean of false spacepoints per event
    ghost_fraction: float = 0.0  # wire of one hit matched with the pads of another, as a fraction of points
    most_points: int = 1500  # strongest kept of an event; 0: all


DEFAULT = Settings()


def noisy(settings: Settings = DEFAULT) -> Settings:
    """Return settings of a worse detector, for studies of robustness: 5 % of points missed, 5 noise points per event,
    3 % ghosts, z resolution 1.5 mm."""
    return settings._replace(inefficiency=0.05, noise_points=5.0, ghost_fraction=0.03, z_resolution_mm=1.5)


def check(species: str, settings: Settings) -> None:
    """Raise BadInput where species or settings cannot be simulated."""
    one_of(species, SPECIES, "species")
    for name, known in (("annihilation_on", ("hydrogen", "wall")), ("vertex", ("disc", "wall"))):
        one_of(getattr(settings, name), known, name)
    low, high = settings.z_range_mm
    if not -HALF_LENGTH_MM <= low <= high <= HALF_LENGTH_MM:
        raise BadInput(f"z_range_mm is ({low}, {high}): wanted -{HALF_LENGTH_MM:.0f} <= low <= high <= 1152, in mm")
    positive = ("field_tesla", "radiation_lengths", "material_g_cm2", "clusters_per_cm", "electron_clusters_per_cm")
    for name in (*positive, "proton_energy_mev", "merging_mm", "most_electrons"):
        if not 0 < getattr(settings, name) < np.inf:
            raise BadInput(f"{name} is {getattr(settings, name)}: wanted a positive number")
    not_negative = (
        *("outer_radiation_lengths", "pair_threshold_mev", "return_radius_mm", "cluster_power", "velocity_power"),
        *("diffusion_mm", "longitudinal_diffusion", "time_spread_ns", "z_resolution_mm", "noise_points", "most_points"),
    )
    for name in not_negative:
        if not 0 <= getattr(settings, name) < np.inf:
            raise BadInput(f"{name} is {getattr(settings, name)}: wanted 0 or more")
    for name in ("proton_chance", "inefficiency", "ghost_fraction"):
        if not 0 <= getattr(settings, name) <= 1:
            raise BadInput(f"{name} is {getattr(settings, name)}: wanted a fraction between 0 and 1")
    shares = settings.material_shares
    if len(shares) != 2 or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
        raise BadInput(f"material_shares is {shares}: wanted two positive shares that add up to 1")
