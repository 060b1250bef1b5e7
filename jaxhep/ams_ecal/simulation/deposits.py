"""What particles leave in the cells, before the readout: electrons one shower, protons a cascade."""

import jax
import jax.numpy as jnp

from jaxhep.ams_ecal.geometry import THICKNESS_MM
from jaxhep.ams_ecal.simulation.electromagnetic import Lines, shower_blobs, spread_over_cells
from jaxhep.ams_ecal.simulation.hadronic import backsplash, cascade, track_deposits
from jaxhep.ams_ecal.simulation.primaries import Primaries
from jaxhep.ams_ecal.simulation.response import cell_gamma
from jaxhep.ams_ecal.simulation.settings import Settings

SHOWER_GRAIN_GEV = 0.003  # energy that one particle of a shower brings to a cell
HALO_GRAIN_GEV = 0.008  # likewise of nuclear fragments and slow tracks
ELECTRON_TRACK_MM = 15.0  # an electron is a single track before the shower
ELECTRON_ALBEDO = 0.0217  # early wide energy at 150 GeV, relative; falls as E^-0.33


def deposits(key: jax.Array, species: str, primaries: Primaries, settings: Settings) -> jax.Array:
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
