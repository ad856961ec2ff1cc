"""Markdown tables, and their insertion into the documents."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from ace_jax.errors import UserError

_Maker = TypeVar("_Maker")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def asked(makers: Mapping[str, _Maker], names: Sequence[str], kind: str = "table") -> list[_Maker]:
    """The makers of these names, in this order.

    Raises:
        UserError: there is no such table (or part, ...).
    """
    for name in names:
        if name not in makers:
            raise UserError(f"no {kind} {name!r}; there are {', '.join(makers)}")
    return [makers[name] for name in names]


def publish(name: str, text: str, docs: str | None) -> None:
    """Prints a table with what belongs to it; puts it into a document if there is one."""
    print(f"\n## {name}\n\n{text}", flush=True)
    if docs:
        put_into(Path(docs), name, text)


def put_into(path: Path, name: str, text: str) -> None:
    """Replaces the block between `<!-- table: NAME -->` and `<!-- end table -->`.

    Raises:
        UserError: the file has no such block, or several.
    """
    pattern = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end table -->)", re.DOTALL)
    result, count = pattern.subn(lambda m: f"{m[1]}\n{text}\n\n{m[2]}", path.read_text())
    if count != 1:
        raise UserError(f"{path}: has {count} blocks '<!-- table: {name} -->', not one")
    path.write_text(result)
