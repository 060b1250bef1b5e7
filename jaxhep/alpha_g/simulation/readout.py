"""From clusters of ionisation to spacepoints: merging, inefficiency, noise, ghosts, and the reconstructed position.

NumPy, on the host: sorting packed integers is quick there, and points are ragged from here on. A spacepoint is what the
experiment reconstructs (arXiv 2412.00961): azimuth of the wire minus the Lorentz angle of the time bin, radius of the
time bin, z from the pads.
"""

from typing import NamedTuple

import numpy as np

from jaxhep.alpha_g.geometry import HALF_LENGTH_MM, TIME_BIN_NS, WIRES, wire_azimuth
from jaxhep.alpha_g.simulation.drift import drift_table, radius_and_lorentz, region
from jaxhep.alpha_g.simulation.ionisation import TIME_BINS
from jaxhep.alpha_g.simulation.settings import Settings

NOISE_AMPLITUDE = 0.5  # of a mean cluster


class Hits(NamedTuple):
    """Signals of wires, (H,) each: event, cell (wire x 512 + time bin), z in mm, amplitude."""

    event: np.ndarray
    cell: np.ndarray
    z: np.ndarray
    amplitude: np.ndarray


def merge(hits: Hits, window_mm: float) -> Hits:
    """Return hits with those of one event, wire, time bin and window of z made one: amplitudes added, z weighted."""
    if not len(hits.event):
        return hits
    window = ((hits.z + HALF_LENGTH_MM) / window_mm).astype(np.uint64)
    index_bits, window_bits = np.uint64(len(hits.z).bit_length()), np.uint64(int(window.max()).bit_length())
    key = (hits.event.astype(np.uint64) << np.uint64(17)) | hits.cell.astype(np.uint64)
    key = (key << window_bits) | window
    packed = np.sort((key << index_bits) | np.arange(len(key), dtype=np.uint64))
    order = (packed & ((np.uint64(1) << index_bits) - np.uint64(1))).astype(np.int64)
    key = packed >> index_bits
    first = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    weight = hits.amplitude[order].astype(np.float64)
    amplitude = np.add.reduceat(weight, first)
    z = np.add.reduceat(weight * hits.z[order], first) / amplitude
    kept = order[first]
    return Hits(hits.event[kept], hits.cell[kept], z, amplitude)


def with_noise(random: np.random.Generator, hits: Hits, events: int, settings: Settings) -> Hits:
    """Return hits after inefficiency, with noise hits (uniform over wires, times and z) and ghosts added.

    A ghost is the wire of one hit with the z of another of the same event and time bin.
    """
    if settings.inefficiency > 0:
        found = random.random(len(hits.event)) >= settings.inefficiency
        hits = Hits(*(values[found] for values in hits))
    added = [hits]
    if settings.ghost_fraction > 0 and len(hits.event):
        time_bin = hits.cell % TIME_BINS
        order = np.argsort(hits.event.astype(np.int64) * TIME_BINS + time_bin, kind="stable")
        one, other = order[:-1], order[1:]
        meet = (hits.event[one] == hits.event[other]) & (time_bin[one] == time_bin[other])
        # Only hits that share a time bin can be mixed up: the fraction asked for is one of all hits, where possible.
        chance = settings.ghost_fraction * len(hits.event) / max(int(meet.sum()), 1)
        ghost = meet & (random.random(len(meet)) < chance)
        one, other = one[ghost], other[ghost]
        weaker = np.minimum(hits.amplitude[one], hits.amplitude[other])
        added.append(Hits(hits.event[one], hits.cell[one], hits.z[other], weaker))
    if settings.noise_points > 0:
        event = np.repeat(np.arange(events), random.poisson(settings.noise_points, events))
        z = random.uniform(-HALF_LENGTH_MM, HALF_LENGTH_MM, len(event))
        last = drift_table().last[region(z)] / TIME_BIN_NS
        time_bin = (random.random(len(event)) * (last + 1)).astype(np.int64)
        cell = random.integers(0, WIRES, len(event)) * TIME_BINS + time_bin
        added.append(Hits(event, cell, z, NOISE_AMPLITUDE * random.exponential(size=len(event))))
    return Hits(*(np.concatenate(values) for values in zip(*added, strict=True)))


def spacepoints(
    random: np.random.Generator, hits: Hits, events: int, settings: Settings
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return points per event (N,) int32, points (P, 3) float32 in mm and amplitudes (P,) float32, strongest first."""
    z = hits.z + settings.z_resolution_mm * random.standard_normal(len(hits.z))
    z = np.clip(z, -HALF_LENGTH_MM, HALF_LENGTH_MM)
    amplitude = hits.amplitude.astype(np.float32)
    # Positive floats sort as their bits do: event, falling amplitude and place in one integer.
    bits = (~amplitude.view(np.uint32)).astype(np.uint64)
    index_bits = np.uint64(len(z).bit_length())
    packed = (hits.event.astype(np.uint64) << np.uint64(32)) | bits
    packed = np.sort((packed << index_bits) | np.arange(len(z), dtype=np.uint64))
    order = (packed & ((np.uint64(1) << index_bits) - np.uint64(1))).astype(np.int64)
    count = np.bincount(hits.event, minlength=events)
    if settings.most_points:
        place = np.arange(len(order)) - np.repeat(np.cumsum(count) - count, count)
        order = order[place < settings.most_points]
        count = np.minimum(count, settings.most_points)
    z, cell = z[order], hits.cell[order]
    radius, lorentz = radius_and_lorentz(cell % TIME_BINS, z)
    phi = wire_azimuth(cell // TIME_BINS) - lorentz
    points = np.stack([radius * np.cos(phi), radius * np.sin(phi), z], 1).astype(np.float32)
    return count.astype(np.int32), points, amplitude[order]
