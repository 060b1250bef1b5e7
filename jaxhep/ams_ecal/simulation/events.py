"""Events of the calorimeter, chunk by chunk: primaries, deposits, readout, and what other detectors say of them."""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxhep.ams_ecal.geometry import CELLS, FRONT_FACE_CM, LAYERS
from jaxhep.ams_ecal.simulation.deposits import deposits
from jaxhep.ams_ecal.simulation.primaries import Primaries, draw_primaries
from jaxhep.ams_ecal.simulation.response import read_out, reconstruct_energy
from jaxhep.ams_ecal.simulation.settings import DEFAULT, SPECIES, Settings, check
from jaxhep.event_chunks import check_range, chunks_of, numbered, one_ahead, whole

CHUNK = 1024
"""Events computed at a time; event n is number n % CHUNK of chunk n // CHUNK."""

# Compiled one by one: fused into one function, XLA computes cells again for each of the sums over them.
_compiled_primaries = jax.jit(draw_primaries, static_argnames=("species", "events", "settings"))
_compiled_deposits = jax.jit(deposits, static_argnames=("species", "settings"))
_compiled_readout = jax.jit(read_out, static_argnames=("settings", "detector_seed"))
_compiled_energy = jax.jit(reconstruct_energy, static_argnames="settings")


def _chunk(key: jax.Array, species: str, settings: Settings) -> dict[str, jax.Array]:
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
def _other_detectors(key: jax.Array, species: str, primaries: Primaries, settings: Settings) -> dict[str, jax.Array]:
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
    check_range(events, first_event, seed)
    kind = SPECIES.index(species)
    key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), kind)
    begun = (
        (number, rows, _chunk(jax.random.fold_in(key, number), species, settings))
        for number, rows in chunks_of(first_event, events, CHUNK)
    )
    # One chunk is computed while the one before it is handed out.
    for number, rows, columns in one_ahead(begun):
        chosen = {name: np.asarray(values)[rows] for name, values in columns.items()}
        yield chosen | numbered(number, rows, CHUNK, 2 * seed + kind)


def simulate(
    species: str, events: int, seed: int, settings: Settings = DEFAULT, first_event: int = 0
) -> dict[str, np.ndarray]:
    """Return the columns that `iterate` yields, whole (5.3 kB per event).

    Raises BadInput as `iterate`, and for no events."""
    return whole(events, iterate(species, events, seed, settings, first_event))
