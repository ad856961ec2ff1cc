"""`list`: the forms of recording names, and the data sets that can be downloaded."""

from pathlib import Path

from ace_jax.data.catalogue import DATA_SETS, DataSet
from ace_jax.data.registry import FORMATS


def listing(root: Path) -> str:
    """The list as lines."""
    width = max(len(known.form) for known in FORMATS.values())
    lines = ["recordings (SEQ):"]
    lines += [f"  {known.form:<{width}}  {known.what}" for known in FORMATS.values()]
    lines += [
        f"  {point.name + '/...':<{width}}  of {point.module}" for point in FORMATS.installed()
    ]
    lines += ["", f"data sets (download NAME; data root: {root}):"]
    for known in DATA_SETS.values():
        lines += [
            f"  {known.name:<{width}}  {known.title}, {_size(known)}, here: {_here(known, root)}",
            f"  {'':<{width}}  {known.licence}",
            f"  {'':<{width}}  {_parts(known)}",
        ]
    return "\n".join(lines)


def _size(known: DataSet) -> str:
    return f"about {known.gigabytes:g} GB" if known.gigabytes else "size as the server says"


def _parts(known: DataSet) -> str:
    if not known.parts:
        return f"no direct download: {known.page}"
    return f"{known.name}/... " + " ".join(part.name for part in known.parts)


def _here(known: DataSet, root: Path) -> str:
    folders = [root / known.name, root / known.name.capitalize()]
    found = [path.name for f in folders if f.is_dir() for path in f.iterdir() if path.is_dir()]
    return f"{len(found)} folders" if found else "-"
