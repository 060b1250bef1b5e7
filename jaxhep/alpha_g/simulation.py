"""Built-in simulation of the ALPHA-g radial TPC: spacepoints of antihydrogen annihilations and of cosmic muons.

Vectorised JAX up to the wires, NumPy for the readout; deterministic: an event is a function of (species, seed, its
number), whatever the number of events asked for at a time. Models: `annihilation`, `cosmics`, `tracks`, `ionisation`,
`drift`, `readout`; their agreement with Geant4 and what they leave out: docs/alpha_g_simulation.md.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxhep.alpha_g.annihilation import (
    CHARGED_PION_MEV,
    CHARGES,
    MOST_CHARGED,
    FinalState,
    final_states,
    photons,
    vertices,
)
from jaxhep.alpha_g.cosmics import cosmic_muons
from jaxhep.alpha_g.geometry import FIELD_TESLA, HALF_LENGTH_MM, INNER_RADIUS_MM
from jaxhep.alpha_g.ionisation import cluster_sizes, drifted
from jaxhep.alpha_g.material import MATERIAL_RADII_MM, converted, in_flight_decays, once_more, through_layer
from jaxhep.alpha_g.random_numbers import fold, salt_of
from jaxhep.alpha_g.readout import Hits, merge, spacepoints, with_noise
from jaxhep.alpha_g.tracks import Arcs, Particles, gas_arcs, select, to_cylinder
from jaxhep.errors import BadInput, nearest

__all__ = ["CHUNK", "SPECIES", "Settings", "check", "iterate", "noisy", "simulate"]

SPECIES = ("annihilation", "cosmic")
CHUNK = 1024
"""Events computed at a time; event n is number n % CHUNK of chunk n // CHUNK."""

ARCS = 16384  # arcs in the gas per chunk, a multiple of this
POOL = 65536  # clusters computed at a time: as many pools as a chunk needs


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

READOUT_SETTINGS = Settings._fields[Settings._fields.index("cluster_power") :]  # all that no track depends on
DRIFT_SETTINGS = ("diffusion_mm", "longitudinal_diffusion", "time_spread_ns")


def noisy(settings: Settings = DEFAULT) -> Settings:
    """Return settings of a worse detector, for studies of robustness: 5 % of points missed, 5 noise points per event,
    3 % ghosts, z resolution 1.5 mm."""
    return settings._replace(inefficiency=0.05, noise_points=5.0, ghost_fraction=0.03, z_resolution_mm=1.5)


def check(species: str, settings: Settings) -> None:
    """Raise BadInput where species or settings cannot be simulated."""
    if species not in SPECIES:
        raise BadInput(f"species {species!r} is not one of {SPECIES}{nearest(species, SPECIES)}")
    for name, known in (("annihilation_on", ("hydrogen", "wall")), ("vertex", ("disc", "wall"))):
        value = getattr(settings, name)
        if value not in known:
            raise BadInput(f"{name} {value!r} is not one of {known}{nearest(str(value), known)}")
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


# Compiled one by one: fused into one function, XLA computes much of it again for each of its uses.
_final_states = jax.jit(final_states, static_argnames=("events", "annihilation_on"))
_through_layer = jax.jit(through_layer, static_argnames="settings")
_cosmic_muons = jax.jit(cosmic_muons, static_argnames=("events", "settings"))
_gas_arcs = jax.jit(gas_arcs, static_argnames="settings")
_once_more = jax.jit(once_more, static_argnames="settings")
_drifted = jax.jit(drifted, static_argnames="settings")


@partial(jax.jit, static_argnames="settings")
def _particles(salt, final: FinalState, settings: Settings):
    """Return vertices (N, 3), particles (N, 22) at their birth: six pions, then electrons of eight photons, and the
    layers of material in which they are born (N, 22), -1 for the vertex."""
    present = final.present[:, :MOST_CHARGED]
    events = len(present)
    vertex = vertices(fold(salt, 0), events, settings.vertex, settings.z_range_mm)
    pions = Particles(
        jnp.broadcast_to(vertex[:, None], (events, MOST_CHARGED, 3)),
        final.momentum[:, :MOST_CHARGED],
        jnp.broadcast_to(CHARGES, present.shape),
        jnp.full(present.shape, CHARGED_PION_MEV),
        present,
        jnp.zeros(present.shape),
    )
    pions = in_flight_decays(fold(salt, 1), pions)
    electrons, layer = converted(fold(salt, 2), vertex, photons(fold(salt, 3), final), settings)
    born = jnp.concatenate([jnp.full(present.shape, -1), layer], 1)
    return vertex, jax.tree.map(lambda a, b: jnp.concatenate([a, b], 1), pions, electrons), born


@partial(jax.jit, static_argnames="settings")
def _enter(particles: Particles, settings: Settings) -> Particles:
    """Return particles behind all material at the inner cathode; muons that start in the gas where they are."""
    inside = jnp.hypot(particles.position[..., 0], particles.position[..., 1]) < INNER_RADIUS_MM
    return select(inside, to_cylinder(particles, INNER_RADIUS_MM, settings.field_tesla), particles)


def _tracks(seeds: list[int], species: str, settings: Settings):
    """Return the arcs of CHUNK events, a tuple of (CHUNK, slots), vertices (CHUNK, 3) and charged pions (CHUNK,)."""
    # Settings that make no difference to a function are set to their defaults for it, so as not to compile it anew.
    settings = settings._replace(**{name: getattr(DEFAULT, name) for name in READOUT_SETTINGS})
    if species == "cosmic":
        muons = _enter(_cosmic_muons(salt_of(*seeds, 0), CHUNK, settings), settings)
        return (_gas_arcs(muons, settings),), jnp.full((CHUNK, 3), jnp.nan), jnp.full(CHUNK, -1, jnp.int8)
    final = _final_states(salt_of(*seeds, 1), CHUNK, settings.annihilation_on)
    vertex, particles, born = _particles(salt_of(*seeds, 2), final, settings._replace(annihilation_on="hydrogen"))
    settings = settings._replace(vertex="disc", z_range_mm=DEFAULT.z_range_mm, annihilation_on="hydrogen")
    for layer in range(len(MATERIAL_RADII_MM)):
        particles = _through_layer(salt_of(*seeds, 3, layer), particles, born, layer, settings)
    particles = _enter(particles, settings)
    again = _once_more(salt_of(*seeds, 4), particles, settings)
    charged = jnp.sum(final.present[:, :MOST_CHARGED], 1, dtype=jnp.int8)
    return (_gas_arcs(particles, settings), _gas_arcs(again, settings)), vertex, charged


def _ionisation(seeds: list[int], passes: tuple[Arcs, ...], random: np.random.Generator, settings: Settings):
    """Return signals of wires of CHUNK events, one of each electron, still being computed: event (E,), and cell, z and
    amplitude in pools, of which the first E rows in all are meant."""
    parts = [np.concatenate([np.asarray(values) for values in field], 1) for field in zip(*passes, strict=True)]
    # Most slots are empty: only the arcs that ionise go on, in a table of one fixed size.
    number = random.poisson(parts[Arcs._fields.index("clusters")])
    event, slot = np.nonzero(number)
    number = number[event, slot]
    table = Arcs(*(jnp.asarray(_padded(values[event, slot], ARCS)) for values in parts))
    size = cluster_sizes(random, int(number.sum()), settings)
    electrons = int(size.sum())
    cluster = _padded(np.repeat(np.arange(len(size), dtype=np.int32), size), POOL)
    owner = np.zeros_like(cluster)
    if electrons:
        owner[:electrons] = np.repeat(np.arange(len(number), dtype=np.int32), number)[cluster[:electrons]]
    drifting = DEFAULT._replace(**{name: getattr(settings, name) for name in DRIFT_SETTINGS})
    pools = [
        _drifted(salt_of(*seeds, 5, pool), table, *halves, drifting)
        for pool, halves in enumerate(zip(owner.reshape(-1, POOL), cluster.reshape(-1, POOL), strict=True))
    ]
    return event[owner[:electrons]] if electrons else np.zeros(0, np.int64), pools


def _read_out(electrons, random: np.random.Generator, settings: Settings) -> dict[str, np.ndarray]:
    """Return the ragged columns of CHUNK events from the signals of `_ionisation`."""
    event, pools = electrons
    cell, z, amplitude = (np.concatenate(values)[: len(event)] for values in zip(*pools, strict=True))
    arrived = cell >= 0
    hits = Hits(event[arrived], cell[arrived], z[arrived], amplitude[arrived])
    hits = with_noise(random, merge(hits, settings.merging_mm), CHUNK, settings)
    count, points, amplitude = spacepoints(random, hits, CHUNK, settings)
    return {"count": count, "points": points, "amplitude": amplitude}


def _padded(values: np.ndarray, multiple: int) -> np.ndarray:
    """Return the array with rows of 0 added to a multiple of some number of rows."""
    missing = -len(values) % multiple if len(values) else multiple
    return np.concatenate([values, np.zeros((missing, *values.shape[1:]), values.dtype)])


def _cut(columns: dict[str, np.ndarray], chosen: slice) -> dict[str, np.ndarray]:
    """Return some events of a chunk."""
    ends = np.concatenate([[0], np.cumsum(columns["count"])])
    ragged = slice(ends[chosen.start], ends[chosen.stop])
    return {
        name: values[ragged] if name in ("points", "amplitude") else values[chosen] for name, values in columns.items()
    }


def iterate(
    species: str, events: int, seed: int, settings: Settings = DEFAULT, first_event: int = 0
) -> Iterator[dict[str, np.ndarray]]:
    """Yield events in chunks of at most CHUNK, numpy arrays; n events with P spacepoints in all.

    count (n,) int32 spacepoints per event; points (P, 3) float32 x, y, z in mm and amplitude (P,) float32 in units of
    a mean cluster, event after event, within an event by falling amplitude; vertex (n, 3) float32 mm (NaN for
    cosmics); charged_pions (n,) int8 at the vertex, after absorption in the wall (-1 for cosmics); run uint32 =
    2 seed + (0 annihilation, 1 cosmic) and event uint32 = event number. Events first_event ...
    first_event + events - 1 of this seed are the same however they are asked for.

    Raises BadInput for an unknown species, settings out of range, or a negative count or seed.
    """
    check(species, settings)
    if events < 0 or first_event < 0 or first_event + events >= 2**32 or not 0 <= seed < 2**31:
        raise BadInput(
            f"events {events}, first_event {first_event}, seed {seed}: wanted events from 0 on, seed 0 to 2^31 - 1"
        )
    run = 2 * seed + SPECIES.index(species)
    last = first_event + events
    pending: tuple | None = None
    # While one chunk is read out in a thread, the next one is computed.
    with ThreadPoolExecutor(1) as reader:
        for start in [*range(first_event - first_event % CHUNK, last, CHUNK), None]:
            ahead = None
            if start is not None:
                seeds = [run, start // CHUNK]
                passes, vertex, charged = _tracks(seeds, species, settings)
                random = np.random.default_rng([*seeds, 6])
                electrons = _ionisation(seeds, passes, random, settings)
                ahead = start, vertex, charged, reader.submit(_read_out, electrons, random, settings)
            if pending is not None:
                begin, vertex, charged, ragged = pending
                columns = {**ragged.result(), "vertex": np.asarray(vertex), "charged_pions": np.asarray(charged)}
                chosen = slice(max(first_event - begin, 0), min(last - begin, CHUNK))
                number = np.arange(begin, begin + CHUNK, dtype=np.uint32)[chosen]
                yield {**_cut(columns, chosen), "run": np.full(len(number), run, np.uint32), "event": number}
            pending = ahead


def simulate(
    species: str, events: int, seed: int, settings: Settings = DEFAULT, first_event: int = 0
) -> dict[str, np.ndarray]:
    """Return what `iterate` yields, whole (some 7 kB per event).

    Raises BadInput as `iterate`, and for no events."""
    if events < 1:
        raise BadInput(f"events is {events}: wanted at least 1")
    chunks = list(iterate(species, events, seed, settings, first_event))
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
