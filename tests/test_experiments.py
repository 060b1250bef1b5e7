"""Every experiment brings what `jaxhep.experiments` says it must, with the arguments that it says."""

import inspect
import re

import pytest

from jaxhep import experiments
from jaxhep.errors import BadInput


def contract() -> dict[str, dict[str, str]]:
    """Return, by module, the names that the document lists and their arguments."""
    found = {}
    for block in re.split(r"\n- ", experiments.__doc__ or "")[1:]:
        part, *names = re.findall(r"`(\w+)(\([^)]*\))?`", block)
        found[part[0]] = dict(names)
    return found


@pytest.mark.parametrize("part", contract())
@pytest.mark.parametrize("experiment", experiments.EXPERIMENTS)
def test_an_experiment_keeps_the_contract(experiment, part):
    module = experiments.part_of(experiment, part)
    names = contract()[part]
    assert len(names) >= 7
    for name, arguments in names.items():
        assert hasattr(module, name), f"{module.__name__} lacks {name}"
        if arguments:
            assert len(inspect.signature(getattr(module, name)).parameters) == arguments.count(",") + 1, name


def test_an_unknown_experiment_is_named():
    with pytest.raises(BadInput, match=r"config.experiment is 'alphag', wanted one of .* \(nearest: 'alpha_g'\)"):
        experiments.part_of("alphag", "samples")
