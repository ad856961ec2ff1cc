"""Mutates the files of small recordings and uses them as a user would."""

import dataclasses
import io
import random
import shutil
import tarfile
import traceback
import zipfile
from pathlib import Path

from ace_jax import archives
from ace_jax.data.frame import BadFrame
from ace_jax.data.registry import open_sequence
from ace_jax.errors import UserError


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Bytes with one to four mutations."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        if not data:
            return bytes(rng.randbytes(20))
        at = rng.randrange(len(data))
        kind = rng.randrange(8)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at : at + rng.randint(1, 8)] = rng.randbytes(rng.randint(1, 8))
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[at : at + rng.randint(1, 64)]
        elif kind == 4:
            data[at:at] = data[at : at + rng.randint(1, 64)]
        elif kind == 5:  # a number becomes a strange one
            strange = (b"nan", b"-inf", b"1e999", b"-1", b"0", b"99999999999", b"\xff\xfe", b"null")
            data[at : at + rng.randint(0, 3)] = rng.choice(strange)
        elif kind == 6:  # four bytes become a large integer
            large = rng.choice((0xFFFFFFFF, 0x7FFFFFFF, 0x80000000)).to_bytes(4, "little")
            data[at : at + 4] = large
        else:
            data[at : at + 8] = rng.choice(
                (b"../../x/", b"\0\0\0\0\0\0\0\0", b"{[{[{[{[", b"\n\n  \t \n")
            )
    return bytes(data)


@dataclasses.dataclass
class Outcome:
    """What one mutated recording did: how it ended, and what must not be."""

    kind: str
    end: str
    problem: str = ""


def _listing(folder: Path) -> set[tuple[str, int]]:
    return {(str(p), p.stat().st_size) for p in folder.rglob("*") if p.is_file()}


def use(name: str, root: Path) -> str:
    """Opens a recording and reads all its frames, poses and times, as a user would."""
    try:
        source = open_sequence(name, root)
        bad = 0
        for i in range(min(len(source), 12)):
            try:
                source[i]
            except BadFrame:
                bad += 1
        source.poses()
        source.timestamps()
    except UserError as error:
        if "\n" in str(error):
            raise ValueError(f"an error of several lines: {error}") from error
        return "refused"
    return "bad frames" if bad else "read"


def fuzz_one(kind: str, clean: Path, name: str, rng: random.Random, box: Path) -> Outcome:
    """Mutates one to three files of a copy of a recording and uses it."""
    root = box / "root"
    shutil.copytree(clean, root)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    for path in rng.sample(files, min(rng.randint(1, 3), len(files))):
        action = rng.randrange(20)
        if action == 0:
            path.unlink()
        elif action == 1:
            path.write_bytes(b"")
        else:
            path.write_bytes(mutate(path.read_bytes(), rng))
    before = _listing(box)
    try:
        end = use(name, root)
        problem = ""
    except Exception:
        end, problem = "traceback", traceback.format_exc(limit=-4)
    if _listing(box) != before:
        problem += "files were written"
    shutil.rmtree(root, ignore_errors=True)
    return Outcome(kind, end, problem)


def fuzz_archive(data: bytes, rng: random.Random, box: Path) -> Outcome:
    """Unpacks a mutated archive."""
    path = box / "below" / "archive"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(mutate(data, rng))
    problem = ""
    try:
        archives.unpack(path, box / "below/target")
        end = "read"
    except UserError:
        end = "refused"
    except Exception:
        end, problem = "traceback", traceback.format_exc(limit=-4)
    outside = [p for p in box.rglob("*") if p != path and "target" not in p.parts and p.is_file()]
    if outside:
        problem += f"written outside: {outside}"
    shutil.rmtree(path.parent, ignore_errors=True)
    return Outcome("archive", end, problem)


def small_archives() -> list[bytes]:
    """Zip and tar files of every compression, one with names beyond ASCII."""
    rng = random.Random(0)
    files = {f"a/{i}.txt": rng.randbytes(50) * 4 for i in range(3)}
    files["a/\u00fc.txt"] = b"x"
    result = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w", method) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        result.append(data.getvalue())
    for mode in ("w", "w:gz", "w:bz2", "w:xz"):
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode=mode) as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        result.append(data.getvalue())
    return result
