"""Copy weights of the Flax networks into the PyTorch baseline.

Layouts: Flax kernels are (rows, columns, inputs, outputs) or (inputs, outputs), PyTorch's (outputs, inputs, rows, columns)
or (outputs, inputs). A dense layer after a flattened map sees (H, W, C) in Flax and (C, H, W) in PyTorch.
"""

import numpy as np
import torch
from flax import traverse_util

NORM_NAMES = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def state_dict(variables, name: str, input_shape: tuple[int, int, int] = (18, 72, 1)) -> dict[str, torch.Tensor]:
    """The PyTorch state_dict with the weights of Flax `variables` (params and, if any, batch_stats).

    name: "mlp", "cnn", "resnet10", "resnet18", "cvt" or "pointnet"; input_shape: (H, W, C) of one event. Gradients in the shape of
    params translate the same way. Flax stores the plain variance of BatchNorm, PyTorch the unbiased one, larger by
    n/(n-1) for n values per channel: a difference of the running estimates which is left as it is.
    Raises ValueError for an unknown name.
    """
    if name not in ("mlp", "cnn", "resnet10", "resnet18", "cvt", "pointnet"):
        raise ValueError(f"network is {name!r}; it must be mlp, cnn, resnet10, resnet18, cvt or pointnet")
    arrays = {**traverse_util.flatten_dict(variables["params"], sep=".")}
    arrays |= traverse_util.flatten_dict(variables.get("batch_stats", {}), sep=".")
    first_dense = {"mlp": "dense_1.kernel", "cnn": "dense.kernel"}.get(name)
    if first_dense in arrays:
        shape = input_shape if name == "mlp" else map_before_dense(arrays, input_shape)
        kernel = np.asarray(arrays[first_dense])
        arrays[first_dense] = kernel.reshape(*shape, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)
    renamed = {torch_name(path, name): torch_array(np.asarray(array)) for path, array in arrays.items()}
    return {path: torch.from_numpy(array.copy()) for path, array in renamed.items()}


def map_before_dense(arrays, input_shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """(H, W, C) of the CNN's last map: each convolution is followed by a 2 x 2 max-pool."""
    kernels = [path for path in arrays if path.startswith("convolution_") and path.endswith("kernel")]
    channels = arrays[sorted(kernels)[-1]].shape[-1]
    return input_shape[0] // 2 ** len(kernels), input_shape[1] // 2 ** len(kernels), channels


def torch_array(array: np.ndarray) -> np.ndarray:
    """A Flax kernel in PyTorch's order of axes; anything else as it is."""
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    return array.T if array.ndim == 2 else array


def torch_name(path: str, name: str) -> str:
    """PyTorch's name of the Flax array called `path`, as in "stage_1_block_1.convolution_1.kernel"."""
    *modules, leaf = path.split(".")
    if name == "pointnet":
        return pointnet_name(modules, leaf)
    if name == "mlp" and modules[0].startswith("dense_"):
        modules = ["dense", str(int(modules[0].removeprefix("dense_")) - 1)]
    if name == "cnn" and modules[0].startswith("convolution_"):
        modules = ["convolutions", str(int(modules[0].removeprefix("convolution_")) - 1)]
    if name.startswith("resnet") and modules[0].startswith("stage_"):
        modules = ["blocks", *modules]
    if name == "cvt" and modules and modules[0].startswith("stage_"):
        _, stage, part, *number = modules[0].split("_")
        place = str(int(stage) - 1)
        block = [str(int(number[0]) - 1)] if number else []
        modules = [
            {"embedding": "embeddings", "norm": "norms", "block": "stages"}[part],
            place,
            *block,
            *modules[1:],
        ]
    if name == "cvt" and modules and modules[-1] in ("query", "key", "value"):
        return ".".join([*modules, projection_name(leaf)])
    return ".".join([*modules, {"kernel": "weight", **NORM_NAMES}.get(leaf, leaf)])


def pointnet_name(modules: list[str], leaf: str) -> str:
    """PyTorch's name of a PointNet array: the parts after the feature transform are one stack called `rest`."""
    *part, layer = modules
    if layer in ("output", "values"):
        return f"{(part or ['rest'])[0]}.values.{'weight' if leaf == 'kernel' else 'bias'}"
    kind, number = layer.split("_")
    place = int(number) - 1
    if not part and kind == "points":
        part, place = (["first"], 0) if place == 0 else (["rest"], place - 1)
    stack = (part or ["rest"])[0]
    module = "first" if stack == "first" else f"{stack}.{kind}.{place}"
    if leaf in ("kernel", "bias"):
        return f"{module}.dense.{'weight' if leaf == 'kernel' else 'bias'}"
    return f"{module}.norm.{NORM_NAMES[leaf.removeprefix('norm_')]}"


def projection_name(leaf: str) -> str:
    """PyTorch's name inside a convolutional projection."""
    part, _, rest = leaf.rpartition("_")
    if leaf in ("mean", "var"):
        return f"norm.{NORM_NAMES[leaf]}"
    kind = "bias" if rest == "bias" else "weight"
    return f"{part or 'pointwise'}.{kind}"
