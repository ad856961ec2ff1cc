"""Data parallelism over scenes: a one-axis device mesh on one or several hosts.

Arrays of scenes are split along their first axis; everything else is on every device. Under `jit`
XLA then sums what is shared over the devices: the transformer's gradient.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ace_jax.errors import UserError

AXIS = "scenes"


class SceneMesh:
    """The devices, and where arrays lie on them.

    Attributes:
        slots: scenes at once, over all devices.
        split: sharding of arrays with a first axis of scenes.
        everywhere: sharding of what every device holds whole.
    """

    def __init__(self, slots: int, devices: Sequence[Any] | None = None):
        """Spreads `slots` scenes over devices (all of them by default).

        Raises:
            UserError: they cannot be spread evenly.
        """
        devices = jax.devices() if devices is None else list(devices)
        if slots % len(devices):
            raise UserError(
                f"{slots} scenes cannot be spread evenly over {len(devices)} devices; set "
                f"config.pool.scenes to a multiple of {len(devices)}"
            )
        mesh = Mesh(np.array(devices), (AXIS,))
        self.slots = slots
        self.split = NamedSharding(mesh, PartitionSpec(AXIS))
        self.everywhere = NamedSharding(mesh, PartitionSpec())

    @property
    def local_slots(self) -> list[int]:
        """The scenes that this process holds."""
        index = self.split.addressable_devices_indices_map((self.slots,))
        return sorted(
            slot
            for rows in index.values()
            if rows is not None
            for slot in range(*rows[0].indices(self.slots))
        )

    def stack(self, row: Callable[[int], Any]) -> Any:
        """A tree of arrays with a first axis of scenes.

        Args:
            row: tree of NumPy arrays of one scene; called for this process' scenes only.
        """
        rows = {slot: row(slot) for slot in self.local_slots}
        leaves = {slot: jax.tree.leaves(tree) for slot, tree in rows.items()}
        some = next(iter(rows.values()))

        def joined(leaf: int, like: np.ndarray) -> jax.Array:
            def of(index: Any) -> np.ndarray:
                slots = range(*index[0].indices(self.slots))
                return np.stack([np.asarray(leaves[slot][leaf]) for slot in slots])

            shape = (self.slots, *np.shape(like))
            return jax.make_array_from_callback(shape, self.split, of)

        flat = [joined(i, like) for i, like in enumerate(jax.tree.leaves(some))]
        return jax.tree.unflatten(jax.tree.structure(some), flat)

    def with_row(self, tree: Any, slot: int, row: Any) -> Any:
        """The tree with one scene replaced; only the device that holds it is touched."""

        def replaced(array: jax.Array, new: np.ndarray) -> jax.Array:
            parts = []
            for shard in array.addressable_shards:
                first, stop, _ = shard.index[0].indices(self.slots)
                part = shard.data
                if first <= slot < stop:
                    part = part.at[slot - first].set(jax.device_put(new, shard.device))
                parts.append(part)
            return jax.make_array_from_single_device_arrays(array.shape, array.sharding, parts)

        return jax.tree.map(replaced, tree, row)
