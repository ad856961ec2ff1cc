"""Unpacks untrusted archives: selected files only, nothing outside the folder, all or nothing."""

import fnmatch
import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from ace_jax.errors import UserError
from ace_jax.files import temporary_beside

_CHUNK = 1 << 20
_MAX_RATIO = 300  # unpacked bytes per packed byte; images and text stay far below
# What the standard library says of damaged archives: also of names that are no UTF-8 or empty, and
# of each compression in its own words.
_DAMAGED = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, EOFError),
    *(NotImplementedError, ValueError, LookupError, OverflowError),
)


def unpack(
    archive: Path, folder: Path, *, keep: Sequence[str] = ("*",), nested: Sequence[str] = ()
) -> int:
    """Unpacks files into a folder that appears only when all of them are there.

    Links, devices and names that lead out of the folder are refused; nothing is written outside.

    Args:
        archive: a zip or (compressed) tar file.
        folder: where to; an existing one gets further files, each complete or not there.
        keep: patterns (`fnmatch`) of the names wanted.
        nested: patterns of zip files inside that are unpacked in their place, likewise.

    Returns:
        How many files were written.

    Raises:
        UserError: the archive is damaged, hostile, or there is no room.
    """
    temporary = temporary_beside(folder)
    try:
        count = _unpack_into(archive, temporary, keep)
        inner = [
            path
            for path in sorted(temporary.rglob("*.zip"))
            if any(fnmatch.fnmatch(path.relative_to(temporary).as_posix(), p) for p in nested)
        ]
        for path in inner:
            count += _unpack_into(path, path.parent, keep) - 1
            path.unlink()
        if not count:
            raise UserError(f"{archive} holds nothing of {', '.join(keep)}; nothing was unpacked")
        _move(temporary, folder)
        return count
    except _DAMAGED as error:
        raise UserError(f"{archive} is damaged ({error}); delete it and download again") from error
    except RuntimeError as error:  # an encrypted zip file
        raise UserError(f"{archive}: {error}") from error
    except OSError as error:
        raise UserError(f"cannot unpack {archive}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unpack_into(archive: Path, folder: Path, keep: Sequence[str]) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    left = min(_MAX_RATIO * archive.stat().st_size + _CHUNK, shutil.disk_usage(folder).free)
    count = 0
    for name, file in _members(archive, keep):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with file, open(target, "wb") as out:
            while chunk := file.read(_CHUNK):
                left -= len(chunk)
                if left < 0:
                    raise UserError(
                        f"{archive} unpacks to more than there is room for, or sense in"
                    )
                out.write(chunk)
        count += 1
    return count


def _members(archive: Path, keep: Sequence[str]) -> Iterator[tuple[Path, IO[bytes]]]:
    """Safe relative names and contents of the wanted regular files."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                link = stat.S_ISLNK(info.external_attr >> 16)
                if not info.is_dir() and _wanted(info.filename, keep):
                    yield _safe(info.filename, archive, link), opened.open(info)
        return
    with tarfile.open(archive, "r:*") as opened:
        for member in opened:
            if not member.isdir() and _wanted(member.name, keep):
                name = _safe(member.name, archive, not member.isreg())
                yield name, opened.extractfile(member)


def _wanted(name: str, keep: Sequence[str]) -> bool:
    return any(fnmatch.fnmatch(name.removeprefix("./"), pattern) for pattern in keep)


def _safe(name: str, archive: Path, special: bool) -> Path:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if special or not parts or ".." in parts or name.startswith("/") or ":" in parts[0]:
        raise UserError(f"{archive} holds {name!r}, which leads out of its folder; do not use it")
    return Path(*parts)


def _move(source: Path, folder: Path) -> None:
    """Moves a tree to its place, in one step if nothing is there yet."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.replace(source, folder)
        return
    except OSError:
        if not folder.is_dir():
            raise
    for path in sorted(source.rglob("*")):
        target = folder / path.relative_to(source)
        if path.is_dir():
            target.mkdir(exist_ok=True)
        else:
            os.replace(path, target)
