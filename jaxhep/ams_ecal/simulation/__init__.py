"""Built-in simulation of the AMS-02 electromagnetic calorimeter: electrons and protons as the ROOT tree `t1` has them.

Vectorised JAX, compiled once per species and settings, deterministic: an event is a function of (species, seed, its
number), whatever the number of events asked for at a time. `events` puts the steps together: `primaries`, `deposits`
(`electromagnetic` showers, `hadronic` cascades), `response`. Agreement with Geant4, and what is left out:
docs/ams_ecal_simulation.md.
"""

from jaxhep.ams_ecal.simulation.deposits import deposits
from jaxhep.ams_ecal.simulation.events import CHUNK, iterate, simulate
from jaxhep.ams_ecal.simulation.primaries import PHYSICAL_INDEX, Primaries, draw_primaries
from jaxhep.ams_ecal.simulation.response import read_out, reconstruct_energy
from jaxhep.ams_ecal.simulation.settings import DEFAULT, SPECIES, Settings, check, flight_like

__all__ = [
    "CHUNK",
    "DEFAULT",
    "PHYSICAL_INDEX",
    "SPECIES",
    "Primaries",
    "Settings",
    "check",
    "deposits",
    "draw_primaries",
    "flight_like",
    "iterate",
    "read_out",
    "reconstruct_energy",
    "simulate",
]
