"""Events of the chamber, chunk by chunk: particles through the material, arcs in the gas, ionisation, readout."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxhep.alpha_g.geometry import INNER_RADIUS_MM
from jaxhep.alpha_g.simulation.annihilation import (
    CHARGED_PION_MEV,
    CHARGES,
    MOST_CHARGED,
    FinalState,
    final_states,
    photons,
    vertices,
)
from jaxhep.alpha_g.simulation.cosmics import cosmic_muons
from jaxhep.alpha_g.simulation.ionisation import cluster_sizes, drifted
from jaxhep.alpha_g.simulation.material import MATERIAL_RADII_MM, converted, in_flight_decays, once_more, through_layer
from jaxhep.alpha_g.simulation.readout import Hits, merge, spacepoints, with_noise
from jaxhep.alpha_g.simulation.settings import DEFAULT, SPECIES, Settings, check
from jaxhep.alpha_g.simulation.tracks import Arcs, Particles, gas_arcs, select, to_cylinder
from jaxhep.event_chunks import check_range, chunks_of, numbered, one_ahead, whole
from jaxhep.random_numbers import Salt, fold, salt_of

CHUNK = 1024
"""Events computed at a time; event n is number n % CHUNK of chunk n // CHUNK."""

ARCS = 16384  # arcs in the gas per chunk, a multiple of this
POOL = 65536  # clusters computed at a time: as many pools as a chunk needs

READOUT_SETTINGS = Settings._fields[Settings._fields.index("cluster_power") :]  # all that no track depends on
DRIFT_SETTINGS = ("diffusion_mm", "longitudinal_diffusion", "time_spread_ns")

Electrons = tuple[np.ndarray, list[tuple[jax.Array, jax.Array, jax.Array]]]
"""Signals of single electrons: event (E,), and in pools cell, z and amplitude, of which the first E in all count."""

# Compiled one by one: fused into one function, XLA computes much of it again for each of its uses.
_final_states = jax.jit(final_states, static_argnames=("events", "annihilation_on"))
_through_layer = jax.jit(through_layer, static_argnames="settings")
_cosmic_muons = jax.jit(cosmic_muons, static_argnames=("events", "settings"))
_gas_arcs = jax.jit(gas_arcs, static_argnames="settings")
_once_more = jax.jit(once_more, static_argnames="settings")
_drifted = jax.jit(drifted, static_argnames="settings")


@partial(jax.jit, static_argnames="settings")
def _particles(salt: Salt, final: FinalState, settings: Settings) -> tuple[jax.Array, Particles, jax.Array]:
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


def _tracks(seeds: list[int], species: str, settings: Settings) -> tuple[tuple[Arcs, ...], jax.Array, jax.Array]:
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


def _ionisation(
    seeds: list[int], passes: tuple[Arcs, ...], random: np.random.Generator, settings: Settings
) -> Electrons:
    """Return the signals of CHUNK events on the wires, still being computed."""
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


def _read_out(electrons: Electrons, random: np.random.Generator, settings: Settings) -> dict[str, np.ndarray]:
    """Return the ragged columns of CHUNK events from the signals of `_ionisation`."""
    event, pools = electrons
    cell, z, amplitude = (np.concatenate(values)[: len(event)] for values in zip(*pools, strict=True))
    arrived = cell >= 0
    hits = Hits(event[arrived], cell[arrived], z[arrived], amplitude[arrived])
    hits = with_noise(random, merge(hits, settings.merging_mm), CHUNK, settings)
    count, points, amplitude = spacepoints(random, hits, CHUNK, settings)
    return {"count": count, "points": points, "amplitude": amplitude}


def _begin(
    seeds: list[int], species: str, settings: Settings, reader: ThreadPoolExecutor
) -> tuple[dict[str, jax.Array], Future[dict[str, np.ndarray]]]:
    """Return the columns of one value per event of CHUNK events, and those of the readout, which goes on meanwhile."""
    passes, vertex, charged = _tracks(seeds, species, settings)
    random = np.random.default_rng([*seeds, 6])
    electrons = _ionisation(seeds, passes, random, settings)
    return {"vertex": vertex, "charged_pions": charged}, reader.submit(_read_out, electrons, random, settings)


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
    check_range(events, first_event, seed)
    run = 2 * seed + SPECIES.index(species)
    # While one chunk is read out in a thread, the next one is computed.
    with ThreadPoolExecutor(1) as reader:
        begun = (
            (number, rows, *_begin([run, number], species, settings, reader))
            for number, rows in chunks_of(first_event, events, CHUNK)
        )
        for number, rows, one, ragged in one_ahead(begun):
            columns = ragged.result() | {name: np.asarray(values) for name, values in one.items()}
            yield _cut(columns, rows) | numbered(number, rows, CHUNK, run)


def simulate(
    species: str, events: int, seed: int, settings: Settings = DEFAULT, first_event: int = 0
) -> dict[str, np.ndarray]:
    """Return what `iterate` yields, whole (some 7 kB per event).

    Raises BadInput as `iterate`, and for no events."""
    return whole(events, iterate(species, events, seed, settings, first_event))
