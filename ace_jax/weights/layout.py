"""Conversion between flat checkpoint names and Flax parameters, strict in both directions.

A Flax parameter's path, joined by dots, is the checkpoint's key: `kernel` and `scale` are `weight`
there. Matrices are transposed ((out, in) to (in, out)) and convolutions go from OIHW to HWIO;
every other tensor is kept as it is.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from ace_jax.errors import UserError

Params = dict[str, Any]


def checkpoint_name(path: tuple[str, ...]) -> str:
    """The checkpoint's key of the Flax parameter at `path`."""
    leaf = "weight" if path[-1] in ("kernel", "scale") else path[-1]
    return ".".join((*path[:-1], leaf))


def _to_flax(leaf: str, tensor: np.ndarray) -> np.ndarray:
    if leaf != "kernel":
        return tensor
    return tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor.T


def _to_checkpoint(leaf: str, array: np.ndarray) -> np.ndarray:
    if leaf != "kernel":
        return array
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T


def to_flax(
    state: Mapping[str, np.ndarray],
    init: Callable[[], Mapping[str, Any]],
    what: str,
    dtype: Any = np.float32,
) -> Params:
    """Flax parameters from a checkpoint's tensors.

    Args:
        state: name to tensor, in the checkpoint's names and layouts.
        init: returns the module's variables (only traced, never run); says what must be there.
        what: the model's name, for messages.
        dtype: of the parameters.

    Raises:
        UserError: a name is missing, unexpected, or has another shape; all of them are listed.
    """
    template: dict[Any, Any] = dict(traverse_util.flatten_dict(jax.eval_shape(init)["params"]))
    names = {checkpoint_name(path): path for path in template}
    problems = [f"missing {name}" for name in sorted(names.keys() - state.keys())]
    problems += [f"unexpected {name}" for name in sorted(state.keys() - names.keys())]
    params = {}
    for name in sorted(names.keys() & state.keys()):
        path = names[name]
        array = _to_flax(path[-1], np.asarray(state[name]))
        if array.shape != template[path].shape:
            nothing = np.broadcast_to(False, template[path].shape)  # takes no memory
            expected = _to_checkpoint(path[-1], nothing).shape
            problems.append(f"{name} has shape {np.shape(state[name])}, expected {expected}")
        else:
            params[path] = np.ascontiguousarray(array, dtype)
    if problems:
        raise UserError(f"the weights are not those of {what}: " + "; ".join(problems))
    return traverse_util.unflatten_dict(params)


def to_checkpoint(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The inverse of `to_flax`: a checkpoint's names and layouts."""
    return {
        checkpoint_name(path): np.ascontiguousarray(_to_checkpoint(path[-1], np.asarray(array)))
        for path, array in traverse_util.flatten_dict(params).items()
    }
