"""Finds the folders of recordings; the error message says what is missing and how to get it."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ace_jax.errors import UserError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


class NotHere(UserError):
    """A recording's folder does not exist."""


def existing(folder: Path, name: str, how: str) -> Path:
    """The folder.

    Raises:
        NotHere: it is not there.
    """
    if folder.is_dir():
        return folder
    there = ""
    if folder.parent.is_dir():
        beside = sorted(path.name for path in folder.parent.iterdir() if path.is_dir())
        there = f" (there: {shortened(beside)})" if beside else " (nothing there)"
    raise NotHere(f"{name} not found: no folder {folder}{there}; {how}, or set --data_root")


def own_folder(rest: str, root: Path, what: str) -> Path:
    """The folder of a user's recording, `/absolute`, or seen from the working folder or the root.

    Raises:
        UserError: it is not there; `what` says what it should hold.
    """
    path = own_path(rest, root)
    if not path.is_dir():
        where = "" if path.is_absolute() else f", neither here nor in {root}"
        raise UserError(f"no folder {rest}{where}: it should hold {what}")
    return path


def own_path(rest: str, root: Path) -> Path:
    """A user's path, `/absolute`, or seen from the working folder, or else from the data root."""
    path = Path(rest).expanduser()
    return path if path.is_absolute() or path.exists() else root / path


def colmap_model(project: Path) -> Path | None:
    """The folder of a COLMAP project that holds its model, or None."""
    for place in (project / "sparse/0", project / "sparse", project):
        for suffix in (".bin", ".txt"):
            if all((place / f"{name}{suffix}").is_file() for name in ("cameras", "images")):
                return place
    return None


def shortened(names: Sequence[str], limit: int = 8) -> str:
    """A list of names that fits on a line."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def last_two(folder: Path) -> str:
    """A folder's last two names, such as `redkitchen/seq-01`; a relative path may have one."""
    folder = folder.absolute()
    return f"{folder.parent.name}/{folder.name}"


def images(folder: Path) -> dict[str, Path]:
    """Image files of a folder by name without suffix; empty if it is not there."""
    if not folder.is_dir():
        return {}
    return {path.stem: path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES}


def natural(name: str) -> list[tuple[int, int | str]]:
    """Sort key by which numbers within names count as numbers."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts]


def read_text(path: Path, what: str) -> str:
    """A text file's content.

    Raises:
        UserError: it is missing or no text; `what` says what it is.
    """
    try:
        return path.read_text()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; {what}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text file; {what}") from error


def with_slashes(name: str) -> str:
    r"""A path that comes from a file, with `/` where Windows has written `images\1.jpg`."""
    return name.replace("\\", "/")


def inside(folder: Path, name: str) -> Path:
    """A file below a folder, by a name that comes from a file, which may be written on Windows.

    Raises:
        UserError: the name leads out of the folder.
    """
    path = PurePosixPath(with_slashes(name))
    drive = re.match(r"[A-Za-z]:/", str(path))
    if "\0" in name or path.is_absolute() or drive or ".." in path.parts:
        raise UserError(f"{folder}: the file name {name!r} leads out of the folder")
    return folder / path
