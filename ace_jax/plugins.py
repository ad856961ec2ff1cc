"""Registries of parts by name: built in, registered by a program, or brought by a package."""

from collections import UserDict
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from ace_jax.errors import UserError

_Part = TypeVar("_Part")


class Registry(UserDict[str, _Part]):
    """Parts by name.

    What is not in it is looked for among the entry points of installed packages, which are imported
    when their part is asked for. What is built in or registered comes first: a package cannot
    replace it unnoticed.

    Attributes:
        group: of the entry points.
    """

    def __init__(self, group: str, parts: Mapping[str, _Part]) -> None:
        super().__init__(parts)
        self.group = group

    def register(self, name: str, part: _Part) -> None:
        """Adds a part. The same one may be added again.

        Raises:
            UserError: the name is taken by another one.
        """
        if self.data.setdefault(name, part) is not part:
            raise UserError(f"the name {name!r} is taken; register it by another one")

    def names(self) -> list[str]:
        """All names, those of installed packages included."""
        return sorted({*self.data, *(point.name for point in entry_points(group=self.group))})

    def installed(self) -> list[EntryPoint]:
        """The entry points of installed packages that can be asked for."""
        points = entry_points(group=self.group)
        return [point for point in points if point.name not in self.data]

    def find(self, name: str) -> _Part | None:
        """The part of a name, or None.

        Raises:
            UserError: an installed package has it and cannot be imported, or two have it.
        """
        if name in self.data:
            return self.data[name]
        points = list(entry_points(group=self.group, name=name))
        if len({point.value for point in points}) > 1:
            packages = " and ".join(_package(point) for point in points)
            raise UserError(f"{packages} both bring {name!r}; uninstall one of them")
        if not points:
            return None
        try:
            return points[0].load()
        except Exception as error:
            raise UserError(
                f"{name!r} of the package {_package(points[0])} cannot be imported "
                f"({type(error).__name__}: {error}); repair or uninstall it"
            ) from error


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.module
