"""Files of strangers end in data, `UserError` or `BadFrame`; nothing runs, nothing is written.

`ACE_JAX_FUZZ=1000 pytest tests/test_file_fuzz.py` reads more of them; the long run with limits on
memory and time is `benchmarks/reliability.py --tables files`.
"""

import json
import os
import random
import tarfile
import time
import zipfile

import pytest
from file_fuzz import DEEP, KEY, MAPS, USES, fuzz_file, giant_png, lie, samples
from safetensors import safe_open
from safetensors.numpy import load, save

from ace_jax.archives import unpack
from ace_jax.data.frame import BadFrame
from ace_jax.data.images import read_depth_units, read_rgb
from ace_jax.data.intrinsics import read_intrinsics
from ace_jax.errors import UserError
from ace_jax.localization.scene_map import load_map
from ace_jax.weights import checkpoint

TIMES = int(os.environ.get("ACE_JAX_FUZZ", "15"))
FOREIGN = ("torch map code", "torch head", "onnx")  # good files of these are not in the repository


@pytest.fixture(scope="module")
def good():
    return samples(None)


@pytest.mark.parametrize("kind", [kind for kind in USES if kind not in FOREIGN])
def test_mutated_files(good, tmp_path, kind):
    path = tmp_path / "good"
    path.write_bytes(good[kind])
    USES[kind](path)  # what is mutated is a good file
    path.unlink()
    for seed in range(TIMES):
        outcome = fuzz_file(kind, good[kind], random.Random(seed), tmp_path)
        assert not outcome.problem, f"seed {seed}: {outcome.problem}"


@pytest.mark.parametrize("kind", FOREIGN)
def test_mutated_weights(shared_dir, tmp_path, kind):
    data = samples(shared_dir)[kind]
    for seed in range(TIMES):
        outcome = fuzz_file(kind, data, random.Random(seed), tmp_path)
        assert not outcome.problem, f"seed {seed}: {outcome.problem}"


def test_lies_are_told_by_their_values(good, tmp_path):
    """A lie has the right checksum."""
    path, reasons = tmp_path / "file", []
    for seed in range(20):
        path.write_bytes(lie(good["map"], random.Random(seed)))
        try:
            load_map(path)
        except UserError as error:
            reasons.append(str(error))
    assert not any("checksum" in reason for reason in reasons)
    assert sum("not a complete map" in reason for reason in reasons) > 8
    assert set(MAPS) <= set(USES)


@pytest.mark.parametrize("depth16", [False, True])
def test_an_image_that_claims_ten_gigapixels(tmp_path, depth16):
    resource = pytest.importorskip("resource")  # POSIX alone has it
    path = tmp_path / "giant.png"
    path.write_bytes(giant_png(100_000, 100_000, depth16))
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(BadFrame, match="100000 x 100000"):
        (read_depth_units if depth16 else read_rgb)(path)
    assert time.process_time() - start < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def _with_meta(data: bytes, text: str) -> bytes:
    return save(load(data), {KEY: text})


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_deep_json(good, tmp_path, opening):
    path = tmp_path / "file"
    path.write_bytes(_with_meta(good["map"], opening * DEEP))
    with pytest.raises(UserError, match="damaged"):
        load_map(path)
    path.write_text(opening * DEEP)
    with pytest.raises(UserError, match="unreadable"):
        read_intrinsics(path)


@pytest.mark.parametrize(
    ("table", "values"),
    [
        ("head_options", {"blocks": 10**9, "width": 64}),
        ("head_options", {"landmarks": 10**12, "dim": 128}),
        ("", {"feature_dim": 10**12}),
        ("feature_options", {"image_size": [10**6, 10**6]}),
        ("feature_options", {"max_features": 10**12}),
        ("feature_options", {"weights_dir": "/somewhere"}),
        ("camera", {"width": 10**9}),
        ("camera", {"fx": "wide"}),
    ],
)
def test_maps_that_ask_for_too_much(good, tmp_path, table, values):
    """Checksums do not cover what a map says of itself, so a stranger need not even forge one."""
    path = tmp_path / "file"
    path.write_bytes(good["map"])
    with safe_open(path, framework="numpy") as file:
        meta = json.loads(file.metadata()[KEY])
    if "blocks" in values:
        meta["head"] = "homogeneous_mlp"
        meta[table] = values
    else:
        (meta[table] if table else meta).update(values)
    path.write_bytes(_with_meta(good["map"], json.dumps(meta)))
    start = time.process_time()
    with pytest.raises(UserError, match="not a complete map"):
        load_map(path)
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    "change",
    [
        {"blocks": 10**9},
        {"blocks": "9" * 30},
        {"blocks": 0},
        {"dim_in": 10**12},
        {"mlp_ratio": float("inf")},
        {"mlp_ratio": float("nan")},
        {"dim": None},
        [1, 2],
    ],
)
def test_weights_that_ask_for_too_much(good, tmp_path, change):
    path = tmp_path / "file"
    path.write_bytes(good["transformer"])
    with safe_open(path, framework="numpy") as file:
        said = file.metadata()
    config = json.loads(said["config"]) | change if isinstance(change, dict) else change
    path.write_bytes(save(load(good["transformer"]), said | {"config": json.dumps(config)}))
    start = time.process_time()
    with pytest.raises(UserError, match=r"no model is like this|unreadable configuration"):
        checkpoint.load(path).build()
    assert time.process_time() - start < 5


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_archives_with_nameless_members(tmp_path, kind):
    path = tmp_path / f"x.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("name", b"x")
        path.write_bytes(path.read_bytes().replace(b"name", b"\0ame"))  # names end at zeros
    else:
        with tarfile.open(path, "w") as archive:
            archive.addfile(tarfile.TarInfo(""))
    with pytest.raises(UserError):
        unpack(path, tmp_path / "target")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
