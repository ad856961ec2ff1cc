"""Downloads of published checkpoints."""

from pathlib import Path

from ace_jax.downloads import Remote, fetch
from ace_jax.weights.catalogue import Entry


def download(entry: Entry, folder: Path, *, progress: bool = True, wait: float = 1.0) -> Path:
    """Fetches a published checkpoint, see `ace_jax.downloads.fetch`."""
    remote = Remote(entry.name, entry.url, entry.file, entry.size, entry.sha256)
    return fetch(remote, folder, progress=progress, wait=wait)
