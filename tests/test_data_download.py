"""Data sets: fetched from a server on this machine, unpacked safely, opened by their readers."""

import concurrent.futures
import dataclasses
import hashlib
import io
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from commands import run_named
from data_scene import PlaneSource
from local_server import Files, serving

from ace_jax import archives
from ace_jax.data import catalogue
from ace_jax.data.catalogue import DATA_SETS, find
from ace_jax.data.export import export
from ace_jax.data.registry import FORMATS, open_sequence
from ace_jax.data.verbs.download import download
from ace_jax.data.verbs.listing import listing
from ace_jax.errors import UserError


def zip_bytes(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tree(folder: Path, prefix: str = "") -> dict[str, bytes]:
    return {
        prefix + path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv("ACE_JAX_OFFLINE")

    handler = Files.of()
    with serving(handler) as handler.url:
        yield handler


def serve(server, monkeypatch, name, data, **changes):
    """Puts an archive on the server in the place of a data set's part."""
    known, (part,) = find(name)
    server.files["/archive"] = data
    part = dataclasses.replace(
        part,
        url=f"{server.url}/archive",
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        **changes,
    )
    changed = dataclasses.replace(known, parts=(part,))
    monkeypatch.setitem(catalogue.DATA_SETS, known.name, changed)


def test_seven_scenes_with_its_inner_archives(server, monkeypatch, tmp_path):
    export(PlaneSource(3), tmp_path / "made/seq-01", "7scenes")
    inner = zip_bytes(tree(tmp_path / "made/seq-01", "seq-01/") | {"seq-01/Thumbs.db": b"x"})
    data = zip_bytes(
        {
            "heads/seq-01.zip": inner,
            "heads/TrainSplit.txt": b"sequence1\n",
            "heads/heads.png": b"a picture that nobody needs",
        }
    )
    serve(server, monkeypatch, "7scenes/heads", data)
    server.breaks += [len(data) // 2]
    root = tmp_path / "root"
    told = download("7scenes/heads", root, progress=False, wait=0.0)
    assert "non-commercial" in told
    assert "ISMAR 2013" in told
    assert len(open_sequence("7scenes/heads", root)) == 3
    assert (root / "7scenes/heads/TrainSplit.txt").exists()
    assert not list(root.rglob("*.zip"))
    assert not list(root.rglob("heads.png")) + list(root.rglob("Thumbs.db"))
    assert list((root / ".downloads").iterdir()) == []


def test_an_archive_without_a_folder_of_its_own(server, monkeypatch, tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo("./associations.txt")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"text"))
    serve(server, monkeypatch, "icl/living_room_traj0_frei_png", buffer.getvalue())
    download("icl/living_room_traj0_frei_png", tmp_path, progress=False, wait=0.0)
    assert (tmp_path / "icl/living_room_traj0_frei_png/associations.txt").read_text() == "text"


def test_a_part_of_a_shared_archive(server, monkeypatch, tmp_path):
    files = {"Replica/room0/traj.txt": b"0", "Replica/room1/traj.txt": b"1", "Replica/x": b""}
    data = zip_bytes(files | {"Replica/cam_params.json": b"{}"})
    known, _ = find("replica")
    server.files["/archive"] = data
    parts = tuple(dataclasses.replace(p, url=f"{server.url}/archive") for p in known.parts)
    monkeypatch.setitem(catalogue.DATA_SETS, "replica", dataclasses.replace(known, parts=parts))
    told = download("replica/room1", tmp_path, progress=False, wait=0.0)
    assert "is kept" in told
    assert {p.name for p in (tmp_path / "Replica").iterdir()} == {"room1", "cam_params.json"}
    server.files.clear()
    with pytest.raises(UserError, match="404"):
        download("replica/room0", tmp_path / "other", progress=False, wait=0.0)


def test_gated_sets_say_what_to_do(tmp_path):
    for name, words in (
        ("scannet", "scannet@googlegroups.com"),
        ("rio10/scene01", "fill in the form"),
        ("indoor6", "indoor6"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            download(name, tmp_path)
        assert "https://" in str(caught.value) or "http://" in str(caught.value)
    with pytest.raises(UserError, match="no data set 'kitti'"):
        find("kitti")
    with pytest.raises(UserError, match="no part 'attic'"):
        find("7scenes/attic")


def test_the_catalogue_names_what_readers_read(tmp_path):
    assert set(DATA_SETS) <= set(FORMATS)
    urls = [part.url for known in DATA_SETS.values() for part in known.parts]
    assert all(url.startswith("https://") for url in urls)
    assert all(known.how or known.parts for known in DATA_SETS.values())
    (tmp_path / "tum/rgbd_dataset_freiburg1_xyz").mkdir(parents=True)
    text = listing(tmp_path)
    assert "TUM RGB-D, size as the server says, here: 1 folders" in text
    assert "7scenes/SCENE/SEQ" in text


OUTSIDE = ("../out.txt", "a/../../out.txt", "/tmp/out.txt", "C:/out.txt", "..\\out.txt")


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_nothing_is_written_outside(tmp_path, name, kind):
    path = tmp_path / "below/archive"
    path.parent.mkdir()
    if kind == "zip":
        path.write_bytes(zip_bytes({"good.txt": b"1", name: b"2"}))
    else:
        with tarfile.open(path, "w:gz") as archive:
            for member in ("good.txt", name):
                archive.addfile(tarfile.TarInfo(member), io.BytesIO())
    before = set(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="leads out of its folder"):
        archives.unpack(path, tmp_path / "below/target")
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_are_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "links.tar", "w") as archive:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(UserError, match="leads out"):
        archives.unpack(tmp_path / "links.tar", tmp_path / "target")
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "links.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(UserError, match="leads out"):
        archives.unpack(tmp_path / "links.zip", tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_damaged_empty_and_exploding_archives(tmp_path):
    data = zip_bytes({f"{i}.txt": bytes(range(256)) * 40 for i in range(5)})
    (tmp_path / "cut.zip").write_bytes(data[: len(data) // 2])
    flipped = bytearray(data)
    flipped[60] ^= 0xFF
    (tmp_path / "flip.zip").write_bytes(flipped)
    (tmp_path / "none.zip").write_bytes(b"")
    for name in ("cut", "flip", "none"):
        with pytest.raises(UserError, match="damaged"):
            archives.unpack(tmp_path / f"{name}.zip", tmp_path / "target")
    (tmp_path / "bomb.zip").write_bytes(zip_bytes({"zeros": bytes(40 << 20)}))
    with pytest.raises(UserError, match="unpacks to more"):
        archives.unpack(tmp_path / "bomb.zip", tmp_path / "target")
    (tmp_path / "good.zip").write_bytes(data)
    with pytest.raises(UserError, match=r"holds nothing of \*\.png"):
        archives.unpack(tmp_path / "good.zip", tmp_path / "target", keep=["*.png"])
    assert not (tmp_path / "target").exists()
    assert archives.unpack(tmp_path / "good.zip", tmp_path / "target") == 5
    (tmp_path / "target/0.txt").write_text("older")
    assert archives.unpack(tmp_path / "good.zip", tmp_path / "target", keep=["0.txt"]) == 1
    assert (tmp_path / "target/0.txt").stat().st_size == 10240
    assert not list(tmp_path.glob(".*"))


def test_two_threads_may_unpack_the_same_archive(tmp_path):
    names = [f"{i}.txt" for i in range(200)]
    (tmp_path / "good.zip").write_bytes(zip_bytes({name: name.encode() * 500 for name in names}))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        done = [
            pool.submit(archives.unpack, tmp_path / "good.zip", tmp_path / "target")
            for _ in range(4)
        ]
    assert [future.result() for future in done] == [200] * 4
    assert {path.name for path in (tmp_path / "target").iterdir()} == set(names)
    assert not list(tmp_path.glob(".*"))


RUNS = {
    "info": "info folder/own",
    "convert": "convert folder/own --to=colmap --out=model",
    "check": "check folder/wrong --picture=seen.png",
}
MISTAKES = {
    "no verb 'chekc'": "chekc x",
    "info takes a name": "info",
    "list takes no name": "list x",
    "no folder": "convert folder/x",
    "missing VERB": "",
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Where the commands ran, and how each of them ended."""
    folder = tmp_path_factory.mktemp("commands")
    export(PlaneSource(12), folder / "own", "folder")
    wrong = shutil.copytree(folder / "own", folder / "wrong") / "intrinsics.json"
    wrong.with_name("times.txt").unlink()
    wrong.write_text(wrong.read_text().replace('"cx": 31.5', '"cx": 63.5'))
    commands = {
        name: ["data", *words.split(), f"--data_root={folder}"]
        for name, words in (RUNS | MISTAKES).items()
    }
    return folder, run_named(commands, folder)


def test_command(answers):
    folder, ended = answers
    assert ended["info"].code == 0
    assert "64 x 48" in ended["info"].out
    assert ended["convert"].code == 0, ended["convert"].err
    assert "12 of 12 frames" in ended["convert"].out
    assert ended["check"].code == 1
    assert "intrinsics" in ended["check"].out
    assert (folder / "seen.png").exists()


@pytest.mark.parametrize("words", MISTAKES)
def test_mistakes_are_one_line(answers, words):
    code, _, err = answers[1][words]
    assert code == 2
    assert words in err
    assert len(err.splitlines()) == 1
