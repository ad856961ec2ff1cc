"""Formatting of lengths: centimetres, or scene units where the scale of a map is not known."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class LengthUnit:
    """How lengths are printed.

    Attributes:
        name: of the unit.
        per_unit: of these for one metre, or for one unit of a scene without scale.
    """

    name: str
    per_unit: float

    def text(self, length: float) -> str:
        """A length with three digits, as far as hundredths of a centimetre."""
        value = self.per_unit * length
        if not math.isfinite(value):
            return "unknown"
        if self is CENTIMETRES:
            return f"{value:.2f} {self.name}"
        return f"{value:.3g} {self.name}"

    def bound(self, length: float) -> str:
        """A threshold, without needless digits."""
        return f"{self.per_unit * length:g} {self.name}"


CENTIMETRES = LengthUnit("cm", 100.0)
SCENE_UNITS = LengthUnit("scene units", 1.0)


def length_unit(metric: bool) -> LengthUnit:
    """Of a scene whose lengths are metres, or are not."""
    return CENTIMETRES if metric else SCENE_UNITS
