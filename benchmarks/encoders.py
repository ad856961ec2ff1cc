"""Encoders: parity with the official modules, speed compared with others, and matching.

  python benchmarks/encoders.py [--tables parity,speed,matching] [--shared DIR] [--docs FILE]
  python benchmarks/encoders.py --tables matching --cores=1 [--rows blobs,sift] [--reuse]
  python benchmarks/encoders.py --tables learned --cores=1 --descriptor FILE

`parity` needs the oracle values in `SHARED/golden`; `speed` also torch, timm and onnxruntime;
`matching` the recordings in `SHARED/data` (see encoder_matching.py): its rows are kept in `--out`
one by one, and `--reuse` goes on with those that are missing. The tables are printed as Markdown
and, with `--docs docs/encoders.md`, put into that file's `<!-- table: NAME -->` blocks.

Ours and the peer run alternately in one process on `--cores` cores, so that what else the machine
does falls on both; the ratio of the medians is what counts. CPU seconds are given beside the wall
time because they hardly depend on the machine's other load.
"""

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import encoder_matching
import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from machine import stamp, use_cores
from markdown import asked, publish, table

from ace_jax import errors
from ace_jax.features import superpoint
from ace_jax.features.registry import create
from ace_jax.models.superpoint import SuperPointMaps
from ace_jax.models.vit import VisionTransformer, ViTConfig
from ace_jax.runtime import enable_compilation_cache
from ace_jax.weights import checkpoint

_TABLES = flags.DEFINE_list("tables", ["parity", "speed", "matching"], "which tables")
_ROWS = flags.DEFINE_list("rows", [], "only these rows of the table of matching")
_OUT = flags.DEFINE_string("out", "runs/benchmarks/encoders", "folder that keeps rows of matching")
_REUSE = flags.DEFINE_bool("reuse", False, "take rows of matching that are already in --out")
_DESCRIPTOR = flags.DEFINE_string(
    "descriptor", None, "weights of the rows `learned_blobs`, which are left out without"
)
_SHARED = flags.DEFINE_string("shared", "../shared", "folder with golden/, weights/ and data/")
_CORES = flags.DEFINE_integer("cores", 2, "processor cores to use", lower_bound=1)
_SECONDS = flags.DEFINE_float("seconds", 20.0, "time for each pair in the table of speeds")
_DOCS = flags.DEFINE_string("docs", None, "Markdown file whose tables are replaced")

_DINO_HEADS = {"a_noreg": 6, "b_reg4": 3, "c_swiglu": 3}  # the golden models' are not 64 wide


def _error(result: Any, expected: np.ndarray) -> float:
    """Relative error in the Euclidean norm."""
    result = np.asarray(result, np.float64).reshape(expected.shape)
    return float(np.linalg.norm(result - expected) / np.linalg.norm(expected))


# Parity.


def _channels_last(array: np.ndarray) -> np.ndarray:
    return np.moveaxis(array.astype(np.float32), 1, -1)


def _dino_rows(golden: Path) -> Iterator[list[str]]:
    inputs = np.load(golden / "dinov2/inputs.npz")
    for name in (*_DINO_HEADS, "hf_dinov2", "hf_dinov2_reg"):
        hub = name in _DINO_HEADS
        loaded = checkpoint.load(golden / f"dinov2/{name}{'.pth' if hub else ''}")
        if hub:
            config = loaded.config | {"heads": _DINO_HEADS[name]}
            loaded = dataclasses.replace(loaded, config=config)
        module, params = loaded.build()
        outputs = np.load(golden / f"dinov2/{name}_outputs.npz")
        key = "x_norm_patchtokens" if hub else "last_hidden_state"
        first = 0 if hub else 1 + module.config.registers
        errors_of = {}
        for dtype in (jnp.float32, jnp.bfloat16):
            typed = VisionTransformer(module.config, dtype=dtype)
            run = jax.jit(lambda p, x, m=typed: m.apply({"params": p}, x).patches)
            errors_of[dtype] = max(
                _error(run(params, _channels_last(inputs[f"img_{size}"])), expected[:, first:])
                for size in ("70x98", "126x168", "224x224")
                if (expected := outputs.get(f"{key}_{size}")) is not None
            )
        yield [
            f"DINOv2 `{name}` ({loaded.path.name}), three sizes",
            *(f"{errors_of[dtype]:.1e}" for dtype in (jnp.float32, jnp.bfloat16)),
        ]


def _encoder_rows(golden: Path, weights: Path) -> Iterator[list[str]]:
    io = np.load(golden / "ace/net_io.npz")
    module, params = checkpoint.load(golden / "ace/encoder_random.pt").build()
    run = jax.jit(module.apply)
    error = max(
        _error(run({"params": params}, io[f"image{s}"][:, 0]), _channels_last(io[f"features{s}"]))
        for s in ("", "_odd")
    )
    yield ["ACE encoder, even and odd size", f"{error:.1e}", ""]

    head, variables = checkpoint.load(golden / "ace/head_random_hidden128.pt").build()
    features = _channels_last(io["features"]).reshape(-1, 64)
    expected = _channels_last(io["scene_coordinates"]).reshape(-1, 3)
    yield ["ACE head", f"{_error(jax.jit(head.apply)(variables, features).xyz, expected):.1e}", ""]

    for name, io_name in (("tiny_head", "head_io"), ("tiny_head_same_dim", "head_same_dim_io")):
        io = np.load(golden / f"ace_g/{io_name}.npz")
        head, variables = checkpoint.load(golden / f"ace_g/{name}.pt").build()
        variables["scene"]["mean"] = jnp.asarray(io["mean"])
        features = _channels_last(io["patch_embeddings"])
        code = jnp.asarray(io["map_embeddings"])
        out = jax.jit(head.apply)(variables, features.reshape(-1, features.shape[-1]), code)
        error = max(
            _error(out.xyz, _channels_last(io["scene_coordinates"]).reshape(-1, 3)),
            _error(out.scale, io["uncertainties"].reshape(-1)),
        )
        yield [f"ACE-G head `{name}`", f"{error:.1e}", ""]

    io = np.load(golden / "superpoint/io.npz")
    module, params = checkpoint.load(golden / "superpoint/superpoint_random.pth").build()
    maps = jax.jit(module.apply)({"params": params}, io["image_u8"][None].astype(np.float32) / 255)
    semi, desc = _channels_last(io["semi"]), _channels_last(io["desc"])
    error = max(_error(maps.keypoint_logits, semi), _error(maps.descriptors, desc))
    yield ["SuperPoint network", f"{error:.1e}", ""]
    maps = SuperPointMaps(jnp.asarray(semi), jnp.asarray(desc))
    uv, scores = jax.jit(lambda m: superpoint.detect(m, 400, 0.015))(maps)
    found = {tuple(p) for p in np.asarray(uv)[np.asarray(scores) > 0].astype(int)}
    expected_points = {tuple(p) for p in io["frontend_pts"][:2].T.astype(int)}
    common = f"{len(found & expected_points)} of {len(expected_points)} keypoints, "
    yield ["SuperPoint front end", common + f"{len(found - expected_points)} others", ""]

    io = np.load(golden / "xfeat/frame000100.npz")
    module, params = checkpoint.load(weights / "xfeat.onnx").build()
    image = io["image_320x240_rgb_u8"][None].astype(np.float32) / 255
    maps = jax.jit(module.apply)({"params": params}, image)
    error = max(
        _error(maps.descriptors, _channels_last(io["descriptors"])),
        _error(maps.keypoint_logits, _channels_last(io["keypoint_logits"])),
        _error(maps.reliability, io["reliability"]),
    )
    yield ["XFeat, real weights and frame (oracle stored in float16)", f"{error:.1e}", ""]


def parity(shared: Path) -> str:
    """Largest relative error against each oracle."""
    golden = shared / "golden"
    rows = [*_dino_rows(golden), *_encoder_rows(golden, shared / "weights")]
    return table(["oracle", "float32", "bfloat16"], rows)


# Speed.


@dataclasses.dataclass
class _Timing:
    wall: list[float] = dataclasses.field(default_factory=list)
    cpu: list[float] = dataclasses.field(default_factory=list)

    def __str__(self) -> str:
        return f"{1e3 * np.median(self.wall):.1f} / {1e3 * np.median(self.cpu):.1f}"


def alternate(functions: Sequence[Callable[[], Any]], seconds: float) -> list[_Timing]:
    """Wall and CPU seconds a call of each function, taken in turns after a warm-up."""
    for function in functions * 2:
        jax.block_until_ready(function())
    timings = [_Timing() for _ in functions]
    start = time.perf_counter()
    while time.perf_counter() - start < seconds or len(timings[0].wall) < 5:
        for function, timing in zip(functions, timings, strict=True):
            # The system counts CPU time in ticks: several fast calls make one measurement.
            wall, cpu, calls = time.perf_counter(), time.process_time(), 0
            while calls == 0 or time.perf_counter() - wall < 0.1:
                jax.block_until_ready(function())
                calls += 1
            timing.wall.append((time.perf_counter() - wall) / calls)
            timing.cpu.append((time.process_time() - cpu) / calls)
    return timings


def _pair(label: str, peer: str, ours: Callable, theirs: Callable, seconds: float) -> list[str]:
    mine, other = alternate([ours, theirs], seconds)
    ratio = np.median(mine.wall) / np.median(other.wall)
    cpu = np.median(mine.cpu) / np.median(other.cpu)
    return [label, str(mine), peer, str(other), f"{ratio:.2f} / {cpu:.2f}"]


def _vit_rows(seconds: float, cores: int) -> Iterator[list[str]]:
    # As for ONNX Runtime: threads of OpenMP should not spin.
    os.environ.update(OMP_WAIT_POLICY="PASSIVE", GOMP_SPINCOUNT="0", KMP_BLOCKTIME="0")
    import timm
    import torch

    torch.set_num_threads(cores)
    cases = (
        ("ViT-S/14, 476x644", ViTConfig(384, 12, 6), (476, 644), "vit_small_patch14_dinov2"),
        ("ViT-B/14, 224x224", ViTConfig(768, 12, 12), (224, 224), "vit_base_patch14_dinov2"),
    )
    for label, config, size, name in cases:
        image = np.random.default_rng(0).normal(size=(1, *size, 3)).astype(np.float32)
        for dtype in ("float32", "bfloat16"):
            module = VisionTransformer(config, dtype=jnp.dtype(dtype))
            params = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 28, 28, 3)))
            params = jax.tree_util.tree_map_with_path(
                lambda path, x, d=dtype: x.astype(d) if path[-1].key == "kernel" else x, params
            )
            run = jax.jit(lambda p, x, m=module: m.apply(p, x).patches)
            peer = timm.create_model(name, pretrained=False, img_size=size).eval()
            peer = peer.to(getattr(torch, dtype))
            peer_image = torch.tensor(image).permute(0, 3, 1, 2).to(getattr(torch, dtype))

            def theirs(peer: Any = peer, peer_image: Any = peer_image) -> None:
                with torch.inference_mode():
                    peer.forward_features(peer_image)

            ours = jnp.asarray(image)
            yield _pair(
                f"{label}, {dtype}",
                "torch (timm)",
                lambda p=params, x=ours, r=run: r(p, x),
                theirs,
                seconds,
            )


def _xfeat_rows(shared: Path, seconds: float, cores: int) -> Iterator[list[str]]:
    import onnxruntime

    path = shared / "weights/xfeat.onnx"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores
    # Threads that spin while they wait are fast on an idle machine and a burden on a busy one.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options)
    module, params = checkpoint.load(path).build()
    params = jax.device_put(params)
    run = jax.jit(module.apply)
    for width, height in ((320, 240), (640, 480)):
        rgb = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
        image = rgb.astype(np.float32) / 255
        grey = jnp.asarray(image.mean(axis=-1)[None])
        nchw = np.ascontiguousarray(image.transpose(2, 0, 1)[None])

        def theirs(nchw: np.ndarray = nchw) -> None:
            session.run(None, {"input": nchw})

        yield _pair(
            f"XFeat network, {width}x{height}",
            "ONNX Runtime",
            lambda x=grey: run({"params": params}, x),
            theirs,
            seconds,
        )
        extractor = create("xfeat", path, image_size=None)
        yield _pair(
            f"XFeat, uint8 image to 600 features, {width}x{height}",
            "ONNX Runtime, network only",
            lambda e=extractor, x=rgb: e.extract(x),
            theirs,
            seconds,
        )


def speed(shared: Path) -> str:
    """Milliseconds beside the peer's."""
    seconds, cores = _SECONDS.value, _CORES.value
    rows = [*_xfeat_rows(shared, seconds, cores), *_vit_rows(seconds, cores)]
    return table(["", "ours, ms", "peer", "peer, ms", "ours / peer"], rows)


# Matching.


def matching(shared: Path) -> str:
    """What each extractor's features are worth under roll, scale, blur and so on."""
    descriptor = Path(_DESCRIPTOR.value) if _DESCRIPTOR.value else None
    return encoder_matching.matching(
        shared, Path(_OUT.value), _ROWS.value, _REUSE.value, descriptor
    )


def learned(shared: Path) -> str:
    """The same of a descriptor that `python -m ace_jax.encoder` has trained, beside RootSIFT."""
    rows = _ROWS.value or ["blobs", "learned_blobs", "blobs_half_octaves",
                           "learned_blobs_half_octaves"]  # fmt: skip
    if not _DESCRIPTOR.value:
        raise errors.UserError("the table of learned descriptors needs --descriptor FILE")
    return encoder_matching.matching(
        shared, Path(_OUT.value) / "learned", rows, _REUSE.value, Path(_DESCRIPTOR.value)
    )


TABLES: dict[str, Callable[[Path], str]] = {
    "parity": parity,
    "speed": speed,
    "matching": matching,
    "learned": learned,
}


def main(_: Sequence[str]) -> None:
    """Makes the tables."""
    enable_compilation_cache()
    for name, make in zip(_TABLES.value, asked(TABLES, _TABLES.value), strict=True):
        where = (
            "" if name in ("matching", "learned") else f"\n\n{stamp()}"
        )  # its rows have their own
        try:
            text = make(Path(_SHARED.value))
        except ImportError as missing:
            raise errors.UserError(
                f"the table of {name} needs {missing.name}: pip install '.[bench]' torch timm"
            ) from missing
        except FileNotFoundError as missing:
            raise errors.UserError(f"no {missing.filename}; set --shared") from missing
        publish(name, f"{text}{where}", _DOCS.value)


def _restrict_to_cores() -> None:
    """Before JAX makes its threads: the flag is read from the command line by hand."""
    chosen = next((a.split("=")[1] for a in sys.argv[1:] if a.startswith("--cores=")), "2")
    if chosen.isdigit():
        use_cores(int(chosen))


if __name__ == "__main__":
    _restrict_to_cores()
    errors.run(main)
