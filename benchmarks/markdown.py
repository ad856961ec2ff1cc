"""Tables in Markdown, and their places in the documents."""

import re
from collections.abc import Sequence
from pathlib import Path

from ace_jax.errors import UserError


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


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
