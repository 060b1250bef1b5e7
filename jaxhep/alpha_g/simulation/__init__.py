"""Built-in simulation of the ALPHA-g radial TPC: spacepoints of antihydrogen annihilations and of cosmic muons.

Vectorised JAX up to the wires, NumPy for the readout; deterministic: an event is a function of (species, seed, its
number), whatever the number of events asked for at a time. `events` puts the steps together: `annihilation`,
`cosmics`, `material`, `tracks`, `ionisation`, `drift`, `readout`. Agreement with Geant4, and what is left out:
docs/alpha_g_simulation.md.
"""

from jaxhep.alpha_g.simulation.events import CHUNK, iterate, simulate
from jaxhep.alpha_g.simulation.settings import DEFAULT, SPECIES, Settings, check, noisy

__all__ = ["CHUNK", "DEFAULT", "SPECIES", "Settings", "check", "iterate", "noisy", "simulate"]
