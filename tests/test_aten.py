"""PyTorch counted without being run: kernels, bytes and operations of simple programs against arithmetic."""

import json

import pytest

torch = pytest.importorskip("torch", reason="the PyTorch baseline needs torch")

from torch.nn import functional  # noqa: E402

from benchmarks import aten, aten_kernels, aten_rules, aten_steps  # noqa: E402
from jaxhep.errors import BadInput  # noqa: E402


def meta(*shape, **options):
    return torch.empty(shape, device="meta", **options)


def seen(program):
    """The kernels of a program of tensors on meta, as they are and fused, when its results are kept."""
    with aten_kernels.Counter() as counter:
        results = program(counter)
    kept = {counter.span(tensor).value for tensor in results}
    return counter.eager, aten.fuse(counter.fusible, kept)


def total(kernels):
    return sum(kernel.bytes for kernel in kernels)


def flops(kernels):
    return sum(sum(kernel.flops.values()) for kernel in kernels)


def test_a_linear_layer_reads_and_writes_each_array_once():
    x, weight, bias = meta(4, 8), meta(16, 8), meta(16)
    eager, _ = seen(lambda counter: [functional.linear(x, weight, bias)])
    assert [kernel.kind for kernel in eager] == [aten_rules.PRODUCT]
    assert total(eager) == 4 * (4 * 8 + 16 * 8 + 16 + 4 * 16)
    assert flops(eager) == 2 * 4 * 8 * 16


def test_views_and_allocations_launch_nothing():
    def program(counter):
        x = meta(4, 6)
        return [x.t().reshape(2, 12)[:, 3:].unflatten(1, (3, 3)).detach(), torch.empty_like(x)]

    eager, _ = seen(program)
    assert [kernel.name for kernel in eager] == ["clone"]  # a transposed array has to be copied to be reshaped


def test_a_chain_of_pointwise_operations_becomes_one_kernel():
    x = meta(100)
    eager, fused = seen(lambda counter: [(2 * x + 1).relu().exp()])
    assert (len(eager), total(eager)) == (4, 4 * 8 * 100)
    assert (len(fused), total(fused)) == (1, 8 * 100)


def test_a_broadcast_operand_counts_its_own_elements():
    x, row = meta(10, 5), meta(5)
    eager, _ = seen(lambda counter: [x + row.expand(10, 5)])
    assert total(eager) == 4 * (50 + 5 + 50)


def test_in_place_operations_read_and_write_the_same_array():
    x = meta(100)
    eager, _ = seen(lambda counter: [x.relu_().zero_()])
    assert [kernel.bytes for kernel in eager] == [800, 400]


def test_pointwise_operations_join_the_product_before_them():
    x, weight = meta(4, 8), meta(16, 8)
    _, fused = seen(lambda counter: [functional.linear(x, weight).relu()])
    assert [kernel.name for kernel in fused] == ["mm + relu"]
    assert total(fused) == 4 * (4 * 8 + 16 * 8 + 4 * 16)


def test_what_another_kernel_needs_is_written():
    x, weight = meta(4, 8), meta(8, 8)

    def program(counter):
        middle = x.exp()
        return [middle.sin() + torch.mm(middle, weight)]

    _, fused = seen(program)
    assert [kernel.name for kernel in fused] == ["exp + sin", "mm + add"]
    # x is read, exp and sin are written; exp, weight and sin are read, the sum is written.
    assert total(fused) == 4 * (3 * 32 + 32 + 64 + 32 + 32)


def test_what_is_a_result_is_written():
    x = meta(100)
    _, fused = seen(lambda counter: [middle := x.exp(), middle.sin()])
    assert (len(fused), total(fused)) == (1, 3 * 400)


def test_a_reduction_is_not_joined_by_what_is_larger():
    x = meta(10, 20)
    _, fused = seen(lambda counter: [x - x.sum(1, keepdim=True).exp()])
    assert [kernel.name for kernel in fused] == ["sum + exp", "sub"]


def test_what_is_saved_for_the_backward_pass_is_written_and_read():
    x = meta(100, requires_grad=True)

    def program(counter):
        y = x.exp().sin().sum()  # exp's result and sin's argument are the same array
        counter.phase = "backward"
        y.backward()
        return [x.grad]

    _, fused = seen(program)
    forward = [kernel for kernel in fused if kernel.phase == "forward"]
    assert [kernel.name for kernel in forward] == ["exp + sin", "sum"]
    assert forward[0].bytes == 3 * 400  # x is read, exp and sin are written
    backward = [kernel for kernel in fused if kernel.phase == "backward"]
    assert sum(span.bytes for kernel in backward for span in kernel.reads if span.elements == 100) == 400


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_convolution_and_its_gradients(layout):
    x = meta(2, 3, 8, 10).contiguous(memory_format=layout).requires_grad_()
    weight, bias = meta(5, 3, 3, 3, requires_grad=True), meta(5, requires_grad=True)

    def program(counter):
        y = functional.conv2d(x, weight, bias, padding=1)
        assert y.is_contiguous(memory_format=layout)
        counter.phase = "backward"
        y.backward(torch.empty_like(y))
        return [x.grad, weight.grad, bias.grad]

    eager, fused = seen(program)
    x_bytes, w_bytes, y_bytes = 4 * 480, 4 * 135, 4 * 800
    forward = [kernel.bytes for kernel in eager if kernel.phase == "forward"]
    assert forward == [x_bytes + w_bytes + y_bytes, 2 * y_bytes + 4 * 5]
    assert total(fused[:1]) == x_bytes + w_bytes + y_bytes + 4 * 5  # the bias is added as the convolution ends
    backward = [kernel for kernel in eager if kernel.name == "convolution_backward"]
    assert [kernel.bytes for kernel in backward] == [*2 * [x_bytes + w_bytes + y_bytes], y_bytes + 4 * 5]
    assert [flops([kernel]) for kernel in (eager[0], *backward)] == [*3 * [2 * 800 * 27], 0]


def test_a_map_that_is_not_in_the_library_s_order_is_copied_first():
    x = meta(2, 8, 10, 4).permute(0, 3, 1, 2)[:, :, 1:]
    eager, fused = seen(lambda counter: [functional.conv2d(x, meta(5, 4, 3, 3))])
    assert [kernel.kind for kernel in eager] == [aten_rules.COPY, aten_rules.CONVOLUTION]
    assert [kernel.kind for kernel in fused] == [aten_rules.CONVOLUTION]


def test_adam_reads_four_arrays_and_writes_three():
    params = [meta(n) for n in (1000, 24)]
    for param in params:
        param.grad = torch.empty_like(param)
    first, second = ([torch.empty_like(p) for p in params] for _ in range(2))
    eager, _ = seen(lambda counter: aten_steps.update(params, first, second, [meta() for _ in params]) or params)
    assert [kernel.name for kernel in eager] == ["_foreach_add_", "_fused_adam_"]
    assert eager[1].bytes == 4 * (7 * 1024 + 2)
    assert eager[0].bytes == 4 * 2 * 2


def test_launches_over_lists_end_at_either_limit():
    assert [len(part) for part in aten_rules.launched(600 * [10], 252)] == [252, 252, 96]
    assert [len(part) for part in aten_rules.launched(3 * [1000 * aten_rules.CHUNK], 252)] == [2, 1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_attention_is_one_kernel(dtype):
    query, key, value = (meta(2, 3, 7, 64, dtype=dtype, requires_grad=True) for _ in range(3))

    def program(counter):
        with aten_steps.AsOnGPU(half=False):
            y = functional.scaled_dot_product_attention(query, key, value, scale=0.1)
        counter.phase = "backward"
        y.backward(torch.empty_like(y))
        return [query.grad]

    eager, _ = seen(program)
    forward = [kernel for kernel in eager if kernel.phase == "forward"]
    assert [kernel.kind for kernel in forward] == [aten_rules.ATTENTION]
    assert flops(forward) == 2 * 2 * 2 * 3 * 7 * 7 * 64
    # Three operands, the result and a sum for each row, which CUTLASS pads to 32 rows.
    assert forward[0].bytes >= query.element_size() * 4 * query.numel() + 4 * 2 * 3 * 7
    assert len([kernel for kernel in eager if "attention_backward" in kernel.name]) == 3


def test_an_operation_that_nothing_is_known_of_is_refused():
    with pytest.raises(BadInput, match="aten::sort"), aten_kernels.Counter():
        meta(4).sort()


def test_the_command_writes_rows_and_a_table_with_jax_beside(tmp_path, capsys):
    beside, out, readme = tmp_path / "jax.jsonl", tmp_path / "rows.jsonl", tmp_path / "README.md"
    compiled = {
        "kind": "compiled",
        "target": "h100",
        "model": "mlp",
        "mode": "train",
        "batch": 128,
        "dtype": "bfloat16",
    }
    compiled |= (
        aten.ALONE
        | {"parallel": "jit", "recompute": "nothing"}
        | {"kernels": 53, "bytes": 2e7, "bound_s": 1e-4, "events_per_s": 1.28e6, "jax": "0.10"}
    )
    beside.write_text(
        "\n".join(
            json.dumps(row)
            for row in (
                compiled,
                compiled | {"devices": 4, "kernels": 99},
                compiled | {"parallel": "pmap", "kernels": 98},
            )
        )
    )
    readme.write_text(f"before\n{aten.BEGIN}\nold\n{aten.END}\nafter\n")
    options = [
        "--models=mlp",
        "--batch=128",
        "--modes=train",
        f"--out={out}",
        f"--beside={beside}",
        f"--readme={readme}",
    ]
    aten.main(options)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["variant"] for row in rows] == ["eager", "fused"]
    assert {(row["framework"], row["how"]) for row in rows} == {("torch", "counted, not run")}
    eager, fused = rows
    assert eager["events_per_s"] == pytest.approx(128 / eager["bound_s"])
    assert eager["bound_s"] >= eager["kernels"] * 2e-6 and fused["bound_s"] < eager["bound_s"]
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text and "not run" in text
    line = next(line for line in text.splitlines() if line.startswith("| h100 | mlp"))
    assert (
        f"| 53 | 0.02 | 1,280,000 | {1.28e6 / eager['events_per_s']:.2f} / {1.28e6 / fused['events_per_s']:.2f} |"
        in line
    )
    assert line in capsys.readouterr().out


def test_wrong_names_and_a_missing_pytorch_are_one_line(tmp_path, monkeypatch):
    with pytest.raises(BadInput, match="--targets is 'v5e', wanted one of h100, h200"):
        aten.main(["--targets=v5e"])
    (tmp_path / "README.md").write_text("nothing")
    with pytest.raises(BadInput, match=r"aten:begin"):
        aten.write(tmp_path / "README.md", "table")
    monkeypatch.setattr(aten, "version", lambda package: None)
    with pytest.raises(BadInput, match="PyTorch is not installed"):
        aten.main([])
