"""Every choice of the calorimeter's simulation, and what of it cannot be simulated."""

from typing import NamedTuple

from jaxhep.errors import BadInput, one_of

SPECIES = ("electron", "proton")


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
    one_of(species, SPECIES, "species")
    one_of(settings.spectrum, ("log_flat", "power_law"), "spectrum")
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
