"""Batched solving: one solver over many images, on one device or sharded over several."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from ace_jax.errors import UserError


def where_asked(function: Callable[..., Any], asked: jax.Array, *args: Any) -> Any:
    """`function(*args)` if `asked` () is true; else zeros of its shapes, at no cost."""
    shapes = jax.eval_shape(function, *args)
    empty = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return jax.lax.cond(asked, function, lambda *_: empty, *args)


def over_images(solve: Callable[..., Any], mesh: Mesh | None = None) -> Callable[..., Any]:
    """A function that solves B images at once; call it under `jax.jit`.

    On accelerators the images are one batch (`vmap`). On CPU they follow each other in one
    compiled loop: there the easy image need not wait for the hard one, which measures 2 to 10
    times faster.

    Args:
        solve: for instance `estimate_absolute_pose`; takes and returns pytrees of arrays.
        mesh: devices that share the images along its first axis; None for one device.

    Returns:
        A function of the same positional arguments, every array in them with a leading axis B.
        With a mesh, B must be a multiple of the number of devices along its first axis.
    """

    def one_after_the_other(*args: Any) -> Any:
        return jax.lax.map(lambda image: solve(*image), args)

    def solve_all(*args: Any) -> Any:
        return jax.lax.platform_dependent(*args, cpu=one_after_the_other, default=jax.vmap(solve))

    if mesh is None:
        return solve_all
    axis = mesh.axis_names[0]
    devices = mesh.shape[axis]
    spec = PartitionSpec(axis)
    # Whatever the axis type of the caller's mesh: placing the arguments is left to the compiler.
    mesh = Mesh(mesh.devices, mesh.axis_names)
    # The solvers' loops start from constants, which are not marked as varying over devices.
    sharded = jax.shard_map(solve_all, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)

    def checked(*args: Any) -> Any:
        size = jax.tree.leaves(args)[0].shape[0]
        if size % devices:
            raise UserError(
                f"{size} images cannot be shared by {devices} devices: pad the batch to a "
                f"multiple of {devices}, with mask False in the padding"
            )
        return sharded(*args)

    return checked
