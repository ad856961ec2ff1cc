"""Limits on model sizes read from files, against memory exhaustion by forged ones."""

from collections.abc import Iterator, Mapping
from typing import Any

MAX_LAYERS = 256  # of anything that a model repeats
MAX_SIZE = 1 << 24  # of anything that a model has many of
_REPEATED = ("blocks", "layers", "final_layers", "depth", "num_blocks", "final_mlp_layers")


def check_options(options: Mapping[str, Any]) -> None:
    """Refuses a model's options that would cost memory or time without end.

    Raises:
        ValueError: a number is too large.
    """
    for name, value in numbers(options):
        check_size(name, value, MAX_LAYERS if name in _REPEATED else MAX_SIZE)


def check_size(name: str, value: int | float, limit: int = MAX_SIZE) -> None:
    """Refuses a number.

    Raises:
        ValueError: it is larger than the limit, or infinite.
    """
    if abs(value) > limit:
        raise ValueError(f"{name} is {value}, at most {limit} make sense")


def number(options: Mapping[str, Any], name: str, default: float | None = None) -> int | float:
    """One of the options, which must be a number: text of digits would evade `check_options`.

    Raises:
        KeyError: it is not there, and there is no default.
        TypeError: it is no number.
    """
    value = options[name] if default is None else options.get(name, default)
    if not isinstance(value, int | float):
        raise TypeError(f"{name} is {value!r}, not a number")
    return value


def numbers(options: Mapping[str, Any]) -> Iterator[tuple[str, int | float]]:
    """Numbers among options, with those in lists and tables, by the option's name."""
    for name, value in options.items():
        inner = list(value.values()) if isinstance(value, Mapping) else value
        for item in inner if isinstance(inner, list | tuple) else [inner]:
            if isinstance(item, int | float):
                yield name, item
