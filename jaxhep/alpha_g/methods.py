"""The methods that an ALPHA-g evaluation compares, by name: network, one member of an ensemble, standard method."""

import numpy as np
from ml_collections import ConfigDict

from jaxhep.config import method_name

STANDARD = "Helix Fit"


def methods_of(config: ConfigDict, columns: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Return, by name, the `prediction` (n, 3) mm of each method, with `width` and `spread` where it has them."""
    network = {name: values for name, values in columns.items() if name in ("prediction", "width", "spread")}
    methods = {method_name(config): network}
    if "members" in columns:
        methods[f"{config.model.name}, one of them"] = {"prediction": columns["members"][:, 0]}
    if "helix_fit" in columns:
        methods[STANDARD] = {"prediction": columns["helix_fit"]}
    if "file_helix_fit" in columns:
        methods[f"{STANDARD} (of the files)"] = {"prediction": columns["file_helix_fit"]}
    return methods
