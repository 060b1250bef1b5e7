"""Launches of compiled programs: bytes, operations, kinds and loops against arithmetic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.bounds import bound, seconds_of_products
from benchmarks.cells_compiled import counted, declared_flops, short
from benchmarks.hlo import computations, instruction, loops_of_unknown_length, size_of
from benchmarks.launches import KINDS, OURS, launches
from benchmarks.targets import TARGETS

H100, V5E = TARGETS["h100"], TARGETS["v5e"]


def program(function, *shapes, dtype=jnp.float32):
    arguments = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
    return jax.jit(function).lower(*arguments).compile().as_text()


def test_an_elementwise_program_reads_its_operands_and_writes_its_result_once():
    found = launches(program(lambda x, y: jnp.sin(x) * y + x, (256, 128), (256, 128)))
    assert sum(one.bytes * one.times for one in found) == 3 * 256 * 128 * 4
    assert not any(one.flops for one in found)


def test_a_product_counts_two_operations_for_each_pair_by_the_type_of_its_operands():
    text = program(lambda x, y: x @ y, (64, 32), (32, 16))
    (one,) = (one for one in launches(text) if one.flops)
    assert one.flops == {"f32": 2 * 64 * 32 * 16}
    assert one.bytes == 4 * (64 * 32 + 32 * 16 + 64 * 16)


def test_a_loop_counts_as_often_as_it_runs():
    def together(x):
        return jax.lax.scan(lambda carry, _: (jnp.sin(carry @ carry), None), x, length=7)[0]

    text = program(together, (32, 32))
    assert sum(one.times * sum(one.flops.values()) for one in launches(text)) == 7 * 2 * 32**3
    assert loops_of_unknown_length(*computations(text)) == 0
    endless = program(lambda x: jax.lax.while_loop(lambda x: x[0] < 5, lambda x: x * 2, x), (4,))
    assert loops_of_unknown_length(*computations(endless)) == 1


def test_a_part_of_an_operand_counts_as_a_part():
    def take(columns, place):
        return jnp.sin(jax.lax.dynamic_slice_in_dim(columns, place, 8)) * 2

    shapes = jax.ShapeDtypeStruct((100_000, 16), jnp.float32), jax.ShapeDtypeStruct((), jnp.int32)
    text = jax.jit(take).lower(*shapes).compile().as_text()
    assert sum(one.times * one.bytes for one in launches(text)) < 8 * 8 * 16 * 4


# Lines as XLA writes them for a GPU and a TPU, shortened.
GPU = """HloModule jit_step, is_scheduled=true

%fused_sum (p.0: bf16[8,16], p.1: bf16[8,16]) -> f32[16] {
  %p.0 = bf16[8,16]{1,0} parameter(0)
  %p.1 = bf16[8,16]{1,0} parameter(1)
  %wide = f32[8,16]{1,0} convert(%p.0)
  ROOT %sum = f32[16]{0} reduce(%wide, %zero), dimensions={0}, to_apply=%add, metadata={op_name="jit(train_step)/transpose(jvp(MLP))/dense_1/reduce_sum"}
}

ENTRY %main (x: bf16[8,16], k: bf16[3,3,16,32], q: bf16[2,6,4,8]) -> f32[16] {
  %x = bf16[8,16]{1,0} parameter(0)
  %k = bf16[3,3,16,32]{3,2,1,0} parameter(1)
  %q = bf16[2,6,4,8]{3,2,1,0} parameter(2)
  %image = bf16[4,5,6,16]{3,2,1,0} bitcast(%x)
  %convolution = (bf16[4,5,6,32]{3,2,1,0}, u8[4096]{0}) custom-call(%image, %k), window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f, custom_call_target="__cudnn$convForward", metadata={op_name="jit(train_step)/jvp(CNN)/conv"}
  %attention = (bf16[2,6,4,8]{3,2,1,0}, u8[0]{0}) custom-call(%q, %q, %q), custom_call_target="__cudnn$fmhaSoftmax", metadata={op_name="jit(train_step)/jvp(CvT)/attention"}
  %own = f32[8]{0} custom-call(%x), custom_call_target="mosaic_gpu_v2", metadata={op_name="jit(train_step)/jvp(PointNet)/largest/pallas_call"}
  %all-reduce-start = f32[1000]{0} all-reduce-start(%z), replica_groups={{0,1}}, to_apply=%add
  %z = f32[1000]{0} parameter(3)
  %all-reduce-done = f32[1000]{0} all-reduce-done(%all-reduce-start)
  ROOT %loop_reduce = f32[16]{0} fusion(%x, %x), kind=kInput, calls=%fused_sum
}
"""


def test_calls_of_libraries_and_kernels_of_our_own_are_counted_by_what_they_take():
    found = {one.name: one for one in launches(GPU, {"largest": 12_345.0})}
    assert [found[name].kind for name in ("convolution", "attention", "own", "loop_reduce", "all-reduce-start")] == [
        "convolution (cuDNN)",
        "attention (cuDNN)",
        "our own (Pallas)",
        "reduction",
        "all-reduce",
    ]
    assert {one.kind for one in found.values()} <= set(KINDS)
    assert found["convolution"].flops == {"bf16": 2 * 4 * 5 * 6 * 32 * 9 * 16}
    assert found["convolution"].bytes == 2 * (4 * 5 * 6 * 16 + 9 * 16 * 32 + 4 * 5 * 6 * 32)  # no workspace
    assert found["attention"].flops == {"bf16": 4 * 2 * 4 * 6 * 6 * 8}
    assert found["own"].flops == {"bf16": 12_345.0}
    assert found["all-reduce-start"].sent == 4_000
    assert found["loop_reduce"].bytes == 2 * 8 * 16 + 4 * 16  # an operand given twice is read once
    assert short(found["loop_reduce"].layer) == "backward MLP/dense_1/reduce_sum"
    assert len(found) == 5  # parameters, bitcasts and ends of collectives launch nothing


def test_what_a_tpu_holds_on_the_chip_is_no_traffic():
    assert size_of("bf16[128,256]{1,0:T(8,128)(2,1)}") == 2 * 128 * 256
    assert size_of("bf16[128,256]{1,0:T(8,128)(2,1)S(1)}") == 0
    assert size_of("(f32[8], /*index=1*/ s32[2,2])") == 48


def test_attributes_with_parentheses_stay_out_of_the_operands():
    one = instruction('%a = f32[2]{0} add(%b, %c), metadata={op_name="jit(f)/add(%d)"}')
    assert one is not None
    assert one.operands == ["b", "c"]


def test_convolutions_of_a_tpu_count_what_meets_data():
    def convolve(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (2, 1), ((1, 1), (0, 2)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    shapes = (4, 9, 7, 3), (3, 3, 3, 5)
    lowered = jax.jit(convolve).lower(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes))
    text = lowered.compile().as_text()
    ours = sum(sum(one.flops.values()) for one in launches(text))
    assert ours == pytest.approx(float(np.ravel(lowered.cost_analysis())[0]["flops"]), rel=1e-6)


def test_the_bound_is_the_sum_of_the_larger_of_bytes_and_products_and_of_launches():
    found = launches(GPU, {"largest": 12_345.0})
    limit = bound(found, H100)
    assert limit.launches == 5 * H100.launch
    assert limit.seconds == pytest.approx(
        sum(max(one.bytes / H100.bandwidth, sum(one.flops.values()) / 790e12) + 2e-6 for one in found)
    )
    assert seconds_of_products({"f32": 395e12, "bf16": 790e12}, H100) == pytest.approx(2.0)
    assert bound(found, V5E).seconds == pytest.approx(sum(one.bytes for one in found) / V5E.bandwidth)
    # XLA estimates no cycles of our own kernels: they take what their bytes and operations would.
    one = found[0]._replace(flops={})
    ours = [one._replace(kind=OURS, bytes=819e9, cycles=0.0), one._replace(cycles=1.5e9, bytes=0.0)]
    assert bound(ours, V5E).cycles == pytest.approx(2.0)
    row = counted(found, H100)
    assert row["kernels"] == 5
    assert row["collectives"] == {"all-reduce": {"number": 1, "bytes": 4000}}
    assert sum(cost[1] for cost in row["costs"].values()) == row["bytes"]


def test_declared_operations_of_our_kernels_are_found_inside_loops():
    from jax.experimental import pallas as pl

    def double(x_ref, out_ref):
        out_ref[...] = 2 * x_ref[...]

    def call(x):
        cost = pl.CostEstimate(flops=99, bytes_accessed=0, transcendentals=0)
        return pl.pallas_call(double, out_shape=x, name="twice", cost_estimate=cost, interpret=True)(x)

    def together(x):
        return jax.lax.scan(lambda carry, _: (call(carry), None), x, length=3)[0]

    assert declared_flops(jax.make_jaxpr(together)(jnp.ones(8)).jaxpr) == {"twice": 99.0}
