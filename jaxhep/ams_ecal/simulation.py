"""Built-in simulation of the AMS-02 electromagnetic calorimeter: electrons and protons as the ROOT tree `t1` has them.

Vectorised JAX, compiled once per species and settings, deterministic: an event is a function of (species, seed, its
number), whatever the number of events asked for at a time. Models: `electromagnetic`, `hadronic`, `response`; their
agreement with Geant4 and what they leave out: docs/ams_ecal_simulation.md.
"""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxhep.ams_ecal.electromagnetic import Lines, shower_blobs, spread_over_cells
from jaxhep.ams_ecal.geometry import CELLS, FRONT_FACE_CM, LAYERS, THICKNESS_MM
from jaxhep.ams_ecal.hadronic import backsplash, cascade, track_deposits
from jaxhep.ams_ecal.response import cell_gamma, read_out, reconstruct_energy
from jaxhep.errors import BadInput, nearest

__all__ = [
    "CHUNK",
    "SPECIES",
    "Settings",
    "deposits",
    "draw_primaries",
    "flight_like",
    "iterate",
    "read_out",
    "reconstruct_energy",
    "simulate",
]

SPECIES = ("electron", "proton")
CHUNK = 1024
"""Events computed at a time; event n is number n % CHUNK of chunk n // CHUNK."""

PHYSICAL_INDEX = {"electron": 3.2, "proton": 2.7}
"""Spectral index of the cosmic-ray flux E^-index to which `weight` brings the generated spectrum."""

SHOWER_GRAIN_GEV = 0.003  # energy that one particle of a shower brings to a cell
HALO_GRAIN_GEV = 0.008  # likewise of nuclear fragments and slow tracks
ELECTRON_TRACK_MM = 15.0  # an electron is a single track before the shower
ELECTRON_ALBEDO = 0.0217  # early wide energy at 150 GeV, relative; falls as E^-0.33


class Settings(NamedTuple):
    """Every choice of the simulation. Hashable: each distinct value compiles its own functions."""

    # What is generated.
    spectrum: str = "log_flat"  # "log_flat" (E^-1, as AMS simulates) or "power_law" (E^-spectral_index)
    spectral_index: float = 2.7
    electron_energy_gev: tuple[float, float] = (100.0, 2500.0)
    proton_energy_gev: tuple[float, float] = (200.0, 20000.0)  # the calorimeter sees about a fifth of it
    cone_angle_deg: float = 25.0  # isotropic within this angle to the vertical
    acceptance_mm: float = 300.0  # entry and exit within +- this, in x and y
    # The calorimeter and the showers.
    radiation_lengths: float = 17.0  # depth: 17 contains 82 % at 1 TeV, 15.5 the 75 % that AMS quotes
    extra_radiation_lengths: float = 0.0  # material in front of the calorimeter
    moliere_radius_mm: float = 24.5  # tuned to the transverse containment of Geant4
    charge_exchange: float = 0.03  # chance that a leading hadron becomes a pi0: ceiling of every rejection
    # Response.
    sampling_term: float = 0.106  # sqrt(GeV): resolution 10.6 % / sqrt(E) (AMS)
    constant_term: float = 0.0125  # relative, one factor per event (AMS)
    gain_spread: float = 0.02  # relative, fixed per cell
    noise_mev: float = 2.0  # per cell
    threshold_mev: float = 4.0  # cells below it are 0
    saturation_mev: float = 60000.0  # per cell
    dead_fraction: float = 0.004  # of the cells, fixed by detector_seed
    attenuation_mm: float = 0.0  # light attenuation length of the fibres (about 2300); 0: none
    detector_seed: int = 0  # gains and dead cells
    # Tracker, and a toy transition radiation detector: normal distributions, electrons low.
    tracker_position_mm: float = 0.5
    tracker_angle_rad: float = 0.0005  # of each slope
    trd_electron: tuple[float, float] = (0.45, 0.10)  # mean and spread of trd_lik
    trd_proton: tuple[float, float] = (0.95, 0.12)


DEFAULT = Settings()


def flight_like(settings: Settings = DEFAULT) -> Settings:
    """Return settings whose detector differs as flight differs from simulation, for studies of domain shift: gain
    spread 5 %, 1 % dead cells, noise doubled, Moliere radius 3 % larger, 0.3 radiation lengths more in front."""
    return settings._replace(
        gain_spread=0.05,
        dead_fraction=0.01,
        noise_mev=2 * settings.noise_mev,
        moliere_radius_mm=1.03 * settings.moliere_radius_mm,
        extra_radiation_lengths=settings.extra_radiation_lengths + 0.3,
    )


def check(species: str, settings: Settings) -> None:
    """Raise BadInput where species or settings cannot be simulated."""
    if species not in SPECIES:
        raise BadInput(f"species {species!r} is not one of {SPECIES}{nearest(species, SPECIES)}")
    if settings.spectrum not in ("log_flat", "power_law"):
        raise BadInput(f"spectrum {settings.spectrum!r} is not 'log_flat' or 'power_law'")
    for name in ("electron_energy_gev", "proton_energy_gev"):
        low, high = getattr(settings, name)
        if not 1.0 <= low < high:
            raise BadInput(f"{name} is ({low}, {high}): wanted 1 <= low < high, in GeV")
    positive = ("cone_angle_deg", "acceptance_mm", "radiation_lengths", "moliere_radius_mm", "sampling_term")
    for name in (*positive, "saturation_mev"):
        if not getattr(settings, name) > 0:
            raise BadInput(f"{name} is {getattr(settings, name)}: wanted a positive number")
    for name in ("charge_exchange", "dead_fraction"):
        if not 0 <= getattr(settings, name) <= 1:
            raise BadInput(f"{name} is {getattr(settings, name)}: wanted a fraction between 0 and 1")


class Primaries(NamedTuple):
    """Particles at the front face, (N,) each: GeV, weight to the physical spectrum, mm, slopes dx/dz and dy/dz."""

    energy: jax.Array
    weight: jax.Array
    x: jax.Array
    y: jax.Array
    slope_x: jax.Array
    slope_y: jax.Array


def _power_norm(index: float, low: float, high: float) -> float:
    """Return the integral of E^-index from low to high."""
    return float(
        np.log(high / low) if abs(index - 1) < 1e-6 else (high ** (1 - index) - low ** (1 - index)) / (1 - index)
    )


def draw_primaries(key, species: str, events: int, settings: Settings) -> Primaries:
    """Draw energies, weights, entry points and directions. Weights bring the generated spectrum to E^-3.2 (electrons)
    or E^-2.7 (protons) over the same range, with mean 1."""
    energy_key, direction_key, position_key = jax.random.split(key, 3)
    low, high = settings.electron_energy_gev if species == "electron" else settings.proton_energy_gev
    index = 1.0 if settings.spectrum == "log_flat" else settings.spectral_index
    uniform = jax.random.uniform(energy_key, (events,))
    if abs(index - 1) < 1e-6:
        energy = low * jnp.exp(uniform * np.log(high / low))
    else:
        power = 1.0 - index
        energy = low * (1.0 + uniform * ((high / low) ** power - 1.0)) ** (1.0 / power)
    energy = jnp.clip(energy, low, high)
    physical = PHYSICAL_INDEX[species]
    norm = _power_norm(index, low, high) / _power_norm(physical, low, high)
    weight = norm * low ** (index - physical) * (energy / low) ** (index - physical)
    # Directions and entry points together, the first of eight tries that crosses (each does with 0.9 or so).
    tries = (events, 8)
    cosine, turn = jax.random.uniform(direction_key, (2, *tries))
    cosine = 1.0 - cosine * (1.0 - np.cos(np.radians(settings.cone_angle_deg)))
    slope = jnp.sqrt(1.0 - cosine**2) / cosine
    slope_x, slope_y = slope * jnp.cos(2 * np.pi * turn), slope * jnp.sin(2 * np.pi * turn)
    x, y = settings.acceptance_mm * jax.random.uniform(position_key, (2, *tries), minval=-1.0)
    leaves = jnp.maximum(jnp.abs(x + THICKNESS_MM * slope_x), jnp.abs(y + THICKNESS_MM * slope_y))
    first = jnp.argmax(leaves < settings.acceptance_mm, axis=1)[:, None]
    chosen = (jnp.take_along_axis(values, first, 1)[:, 0] for values in (x, y, slope_x, slope_y))
    return Primaries(energy, weight, *chosen)


def deposits(key, species: str, primaries: Primaries, settings: Settings):
    """Return the ideal energy (N, 18, 72) in GeV that particles leave in the cells, before the readout's response.

    primaries: energies in GeV (N,), points in mm at the front face and slopes (their weights are not used).
    """
    shower_key, track_key, cascade_key, cell_key = jax.random.split(key, 4)
    front = jnp.zeros_like(primaries.x)
    primary = Lines(*(v[:, None] for v in (primaries.x, primaries.y, front, primaries.slope_x, primaries.slope_y)))
    if species == "electron":
        before = settings.extra_radiation_lengths * THICKNESS_MM / settings.radiation_lengths
        start = primary._replace(x=primary.x - before * primary.slope_x, y=primary.y - before * primary.slope_y)
        start = start._replace(z=primary.z - before)
        energy = primaries.energy[:, None]
        blobs = shower_blobs(shower_key, energy, start, settings)
        albedo = ELECTRON_ALBEDO * energy * (energy / 150.0) ** -0.33
        albedo = albedo * jnp.exp(0.35 * jax.random.normal(cascade_key, albedo.shape) - 0.06)
        halos = backsplash(albedo, start, 30.0, 0.6)
        tracks, ends = primary, jnp.full_like(primary.z, ELECTRON_TRACK_MM)
    else:
        result = cascade(cascade_key, primaries.energy, primary, settings)
        blobs = shower_blobs(shower_key, result.shower_energy, result.showers, settings, photons=3)
        halos, tracks, ends = result.halos, result.tracks, result.track_ends
    # A cell fluctuates the more, the more energy each of the particles that cross it brings.
    shower, halo = spread_over_cells(blobs), spread_over_cells(halos)
    mean = shower + halo
    grain = (SHOWER_GRAIN_GEV * shower + HALO_GRAIN_GEV * halo) / (mean + 1e-12)
    return cell_gamma(cell_key, mean, grain + 1e-6) + track_deposits(track_key, tracks, ends)


# Compiled one by one: fused into one function, XLA computes cells again for each of the sums over them.
_compiled_primaries = jax.jit(draw_primaries, static_argnames=("species", "events", "settings"))
_compiled_deposits = jax.jit(deposits, static_argnames=("species", "settings"))
_compiled_readout = jax.jit(read_out, static_argnames=("settings", "detector_seed"))
_compiled_energy = jax.jit(reconstruct_energy, static_argnames="settings")


def _chunk(key, species: str, settings: Settings) -> dict[str, jax.Array]:
    """Return the columns of CHUNK events that need computing."""
    primary_key, deposit_key, read_key, detector_key = jax.random.split(key, 4)
    primaries = _compiled_primaries(primary_key, species, CHUNK, settings)
    energy = _compiled_deposits(deposit_key, species, primaries, settings)
    cells = _compiled_readout(read_key, energy, settings, settings.detector_seed)
    return {
        "edep_cell": cells.reshape(CHUNK, LAYERS * CELLS),
        "en3d": _compiled_energy(cells, settings),
        "mom": primaries.energy,
        **_other_detectors(detector_key, species, primaries, settings),
        "weight": primaries.weight,
    }


@partial(jax.jit, static_argnames=("species", "settings"))
def _other_detectors(key, species: str, primaries: Primaries, settings: Settings) -> dict[str, jax.Array]:
    """Return the tracker's track, (CHUNK, 1) each, and the toy transition radiation detector's likelihoods."""
    track_key, trd_key = jax.random.split(key)
    smear = jax.random.normal(track_key, (4, CHUNK))
    slope_x = primaries.slope_x + settings.tracker_angle_rad * smear[2]
    slope_y = primaries.slope_y + settings.tracker_angle_rad * smear[3]
    # Toy detector: only the separation of the two species is meant, no radiator and no energy dependence.
    mean, spread = settings.trd_electron if species == "electron" else settings.trd_proton
    likelihood = jnp.maximum(mean + spread * jax.random.normal(trd_key, (CHUNK,)), 0.0)
    (mean_e, spread_e), (mean_p, spread_p) = settings.trd_electron, settings.trd_proton
    return {
        "Trk_Ecal_Inci_X": (primaries.x + settings.tracker_position_mm * smear[0])[:, None] / 10,
        "Trk_Ecal_Inci_Y": (primaries.y + settings.tracker_position_mm * smear[1])[:, None] / 10,
        "Trk_Ecal_Inci_Z": jnp.full((CHUNK, 1), FRONT_FACE_CM),
        "Trk_Ecal_Inci_Zenith": jnp.arctan(jnp.hypot(slope_x, slope_y))[:, None],
        "Trk_Ecal_Inci_Azimutal": jnp.arctan2(slope_y, slope_x)[:, None],
        "trd_lik": likelihood,
        "TRD_e_likelihood": jnp.exp(-0.5 * ((likelihood - mean_e) / spread_e) ** 2) / spread_e,
        "TRD_p_likelihood": jnp.exp(-0.5 * ((likelihood - mean_p) / spread_p) ** 2) / spread_p,
    }


def iterate(
    species: str, events: int, seed: int, settings: Settings = DEFAULT, first_event: int = 0
) -> Iterator[dict[str, np.ndarray]]:
    """Yield the columns of the tree `t1` in chunks of at most CHUNK events, numpy arrays of one length n each.

    edep_cell (n, 1296) float32 MeV, layer after layer; en3d float32 GeV, reconstructed (electromagnetic hypothesis);
    mom float32 GeV, true; Trk_Ecal_Inci_X, _Y, _Z (n, 1) float32 cm at the front face, Trk_Ecal_Inci_Zenith,
    _Azimutal (n, 1) float32 rad, all as the tracker measures them; weight float32; trd_lik, TRD_e_likelihood,
    TRD_p_likelihood float32 (a toy); run uint32 = 2 seed + (0 electron, 1 proton) and event uint32 = event number.
    Events first_event ... first_event + events - 1 of this seed are the same however they are asked for.

    Raises BadInput for an unknown species, settings out of range, or a negative count or seed.
    """
    check(species, settings)
    if events < 0 or first_event < 0 or first_event + events >= 2**32 or not 0 <= seed < 2**31:
        raise BadInput(
            f"events {events}, first_event {first_event}, seed {seed}: wanted events from 0 on, seed 0 to 2^31 - 1"
        )
    kind = SPECIES.index(species)
    key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), kind)
    last = first_event + events
    starts = range(first_event - first_event % CHUNK, last, CHUNK)
    pending = None
    for start in [*starts, None]:
        # One chunk is computed while the one before it is handed out.
        ahead = None if start is None else (start, _chunk(jax.random.fold_in(key, start // CHUNK), species, settings))
        if pending is not None:
            begin, columns = pending
            chosen = slice(max(first_event - begin, 0), min(last - begin, CHUNK))
            chunk = {name: np.asarray(values)[chosen] for name, values in columns.items()}
            number = np.arange(begin, begin + CHUNK, dtype=np.uint32)[chosen]
            yield {**chunk, "run": np.full(len(number), 2 * seed + kind, np.uint32), "event": number}
        pending = None if start is None else ahead


def simulate(
    species: str, events: int, seed: int, settings: Settings = DEFAULT, first_event: int = 0
) -> dict[str, np.ndarray]:
    """Return the columns that `iterate` yields, whole (5.3 kB per event).

    Raises BadInput as `iterate`, and for no events."""
    if events < 1:
        raise BadInput(f"events is {events}: wanted at least 1")
    chunks = list(iterate(species, events, seed, settings, first_event))
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
