"""Programs are compared by what they compute, numbers by their size, and a change is found."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks import programs
from jaxhep import losses


def digest(function, *shapes):
    arguments = tuple(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes or ((4,), (4,)))
    return programs.digest(function, arguments, "cpu")


def test_order_dead_code_and_names_are_no_part_of_a_program():
    def one(x, y):
        a, b = jnp.sin(x), jnp.cos(y)
        return a + b

    def other(first, second):
        b = jnp.cos(second)
        jnp.exp(b)
        return jnp.sin(first) + b

    @jax.jit
    def inner(value):
        return jnp.sin(value)

    @jax.jit
    def renamed(value):
        return jnp.sin(value)

    assert digest(one) == digest(other)
    assert digest(lambda x, y: inner(x)) == digest(lambda x, y: renamed(x))


@pytest.mark.parametrize(
    "changed",
    [
        lambda x, y: jnp.sin(y) + jnp.cos(x),
        lambda x, y: jnp.sin(x) - jnp.cos(y),
        lambda x, y: jnp.sin(x) + jnp.cos(y) + 1e-7,
        lambda x, y: (jnp.sin(x) + jnp.cos(y)).astype(jnp.bfloat16),
    ],
)
def test_whatever_else_changes_is_seen(changed):
    assert digest(changed) != digest(lambda x, y: jnp.sin(x) + jnp.cos(y))


def test_what_happens_in_a_loop_is_part_of_it():
    def loop(step):
        return lambda x, y: jax.lax.scan(lambda carry, part: (step(carry, part), None), x, y)[0]

    shapes = ((4,), (3, 4))
    one = digest(loop(lambda carry, part: carry + part), *shapes)
    assert one == digest(loop(lambda total, row: total + row), *shapes)
    assert one != digest(loop(lambda carry, part: carry * part), *shapes)


def test_a_record_is_held_against_the_code(tmp_path, monkeypatch, capsys):
    chosen = ["--configs", "mlp", "--dtypes", "float32", "--platforms", "cpu"]
    path = str(tmp_path / "before.json")
    assert programs.main([*chosen, "--out", path]) == 0
    assert programs.main([*chosen, "--against", path]) == 0
    assert "mlp, float32: 4 of 4 programs identical" in capsys.readouterr().out
    ours = losses.binary_cross_entropy
    monkeypatch.setattr("jaxhep.ams_ecal.task.binary_cross_entropy", lambda *given: 1.001 * ours(*given))
    assert programs.main([*chosen, "--against", path]) == 1
    text = capsys.readouterr().out
    assert "DIFFERS: mlp, float32: losses differ by 0.001" in text
    assert "mlp, float32: train, smoke, cpu: program was" in text
