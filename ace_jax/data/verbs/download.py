"""`download NAME`: fetches a data set or a part of it, and unpacks what the readers use."""

from pathlib import Path

from absl import logging

from ace_jax import archives
from ace_jax.data.catalogue import DataSet, Part, find
from ace_jax.downloads import Remote, fetch
from ace_jax.errors import UserError


def download(name: str, root: Path, *, progress: bool = True, wait: float = 1.0) -> str:
    """Fetches and unpacks; says what is where.

    Archives are kept until they are unpacked, in `.downloads` of the data root; a broken download
    goes on with the same command.

    Args:
        name: `DATASET` or `DATASET/PART`.
        root: the data root.
        progress: show bars.
        wait: seconds before the first repetition after a broken connection.

    Raises:
        UserError: unknown name, no direct download (it says what to do), or what `fetch` and
            `unpack` raise.
    """
    known, parts = find(name)
    if not parts:
        how = known.how.format(root=root)
        raise UserError(
            f"{known.title} cannot be fetched directly ({known.licence}): {how}; page: {known.page}"
        )
    logging.info("%s: %s; cite %s", known.title, known.licence, known.citation)
    lines = [f"{known.title}: {known.licence}", f"cite: {known.citation}"]
    return "\n".join([*lines, *(_one(known, part, root, progress, wait) for part in parts)])


def _one(known: DataSet, part: Part, root: Path, progress: bool, wait: float) -> str:
    remote = Remote(
        name=f"{known.name}/{part.name}",
        url=part.url,
        # Parts of one archive share it.
        file=f"{known.name}_{part.url.rsplit('/', 1)[-1]}",
        size=part.size,
        sha256=part.sha256,
    )
    archive = fetch(remote, root / ".downloads", progress=progress, wait=wait)
    folder = root / part.folder
    count = archives.unpack(archive, folder, keep=part.keep, nested=part.nested)
    shared = sum(other.url == part.url for other in known.parts) > 1
    kept = f"; {archive} is kept, as other parts are in it" if shared else ""
    if not shared:
        archive.unlink()
    return f"{known.name}/{part.name}: {count} files in {folder}{kept}"
