"""Files to checkpoints and back: recognition, conversion, verification."""

import dataclasses
import json
import re

import numpy as np
import pytest
from safetensors.numpy import save_file

from ace_jax.errors import UserError
from ace_jax.weights import catalogue, checkpoint, formats, layout, safetensors_io, xfeat

GOLDEN = {
    "dinov2": "dinov2/a_noreg.pth",
    "ace_encoder": "ace/encoder_random.pt",
    "ace_head": "ace/head_random_hidden128.pt",
    "ace_g_head": "ace_g/tiny_head.pt",
    "ace_g_map": "ace_g/tiny_map.pt",
    "superpoint": "superpoint/superpoint_random.pth",
    "xfeat": "../weights/xfeat.onnx",
}


@pytest.mark.parametrize("family", GOLDEN)
def test_conversion_keeps_the_weights_and_says_what_they_are(shared_dir, tmp_path, family):
    source = checkpoint.load(shared_dir / "golden" / GOLDEN[family])
    assert source.family == family
    out = tmp_path / "w.safetensors"
    metadata = checkpoint.save(source, out)
    assert metadata["source_sha256"] == checkpoint.file_sha256(source.path)
    again = checkpoint.load(out, family)
    assert again.config == json.loads(json.dumps(source.config))
    assert again.function_checksum == source.function_checksum
    for name, tensor in source.state.items():
        assert again.state[name].dtype == tensor.dtype
        np.testing.assert_array_equal(again.state[name], tensor)
    again.build()
    assert "converted" in checkpoint.verify(out)
    # Converting a converted file changes nothing.
    checkpoint.save(again, tmp_path / "again.safetensors")
    assert safetensors_io.read(tmp_path / "again.safetensors")[1] == metadata


def test_safetensors_and_pth_of_one_model_are_the_same(shared_dir):
    one, other = (
        checkpoint.load(shared_dir / f"golden/dinov2/a_noreg.{suffix}")
        for suffix in ("pth", "safetensors")
    )
    assert one.function_checksum == other.function_checksum


def test_the_position_rule_is_part_of_the_function(shared_dir):
    official = checkpoint.load(shared_dir / "golden/dinov2/a_noreg.pth")
    other = dataclasses.replace(official, config=official.config | {"interpolation": "size"})
    assert official.checksum == other.checksum
    assert official.function_checksum != other.function_checksum


def test_xfeat_pt_is_folded_to_the_onnx_export(shared_dir):
    """The published PyTorch layout, made from the export by undoing the folding."""
    onnx = checkpoint.load(shared_dir / "weights/xfeat.onnx")
    rng = np.random.default_rng(0)
    tensors = {"fine_matcher.0.weight": np.zeros((512, 128), np.float32)}
    for name, tensor in onnx.state.items():
        layer = name.rpartition(".")[0]
        if not layer.endswith(".layer.0"):
            tensors[f"net.{name}"] = tensor
        elif name.endswith("weight"):
            variance = rng.uniform(0.5, 2, len(tensor)).astype(np.float32)
            deviation = np.sqrt(variance + 1e-5)
            norm = f"net.{layer[:-1]}1"
            tensors[f"net.{name}"] = tensor * deviation[:, None, None, None]
            tensors[f"{norm}.running_var"] = variance
            tensors[f"{norm}.running_mean"] = -onnx.state[f"{layer}.bias"] * deviation
            tensors[f"{norm}.num_batches_tracked"] = np.array(7)
    file = formats.WeightsFile(onnx.path, "torch", tensors, {}, {})
    assert xfeat.recognises(file)
    state, _ = xfeat.convert(file)
    assert set(state) == set(onnx.state)
    for name, tensor in onnx.state.items():
        np.testing.assert_allclose(state[name], tensor, rtol=1e-5, atol=1e-6)
    # A missing statistic is told by name.
    tensors.pop("net.block1.0.layer.1.running_mean")
    with pytest.raises(UserError, match=r"missing block1\.0\.layer\.0\.bias"):
        xfeat.build(*xfeat.convert(dataclasses.replace(file, tensors=tensors)))


def test_layout_is_inverted(shared_dir):
    source = checkpoint.load(shared_dir / "golden/ace/encoder_random.pt")
    _, params = source.build()
    back = layout.to_checkpoint(params)
    assert set(back) == set(source.state)
    for name, tensor in source.state.items():
        np.testing.assert_array_equal(back[name], tensor.astype(np.float32))


def test_a_file_of_another_or_no_model_is_refused(shared_dir, tmp_path):
    with pytest.raises(UserError, match="holds ACE encoder weights, not SuperPoint's"):
        checkpoint.load(shared_dir / "golden/ace/encoder_random.pt", "superpoint")
    save_file({"a.b": np.zeros(3, np.float32)}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match=r"no known model .*it holds a\.b"):
        checkpoint.load(tmp_path / "x.safetensors")
    with pytest.raises(UserError, match=r"missing conv1\.bias"):
        checkpoint.load(tmp_path / "x.safetensors", "ace_encoder").build()


def test_a_changed_tensor_is_found(shared_dir, tmp_path):
    out = tmp_path / "w.safetensors"
    source = checkpoint.load(shared_dir / "golden/ace_g/tiny_map.pt")
    metadata = checkpoint.save(source, out)
    safetensors_io.write(out, {**source.state, "mean": source.state["mean"] + 1}, metadata)
    with pytest.raises(UserError, match="not those that were converted"):
        checkpoint.verify(out)


def test_values_that_are_not_finite_are_found(shared_dir):
    loaded = checkpoint.load(shared_dir / "weights/xfeat.onnx")
    name = sorted(loaded.state)[3]
    spoilt = loaded.state[name].copy()
    spoilt.flat[0] = np.nan
    changed = dataclasses.replace(loaded, state=loaded.state | {name: spoilt})
    with pytest.raises(UserError, match=rf"xfeat\.onnx: {re.escape(name)} holds .* not finite"):
        changed.build()


def test_a_published_file_with_other_bytes_is_found(shared_dir, tmp_path):
    path = tmp_path / "superpoint_v1.pth"
    path.write_bytes((shared_dir / "golden/superpoint/superpoint_random.pth").read_bytes())
    with pytest.raises(UserError, match="not that of the published superpoint"):
        checkpoint.verify(path)


@pytest.mark.parametrize("damage", ["truncated", "header", "empty"])
def test_damaged_safetensors_are_one_line(shared_dir, tmp_path, damage):
    data = (shared_dir / "golden/dinov2/c_swiglu.safetensors").read_bytes()
    path = tmp_path / "w.safetensors"
    path.write_bytes({"truncated": data[:-9], "header": data[:40], "empty": b""}[damage])
    with pytest.raises(UserError, match="not a readable safetensors file"):
        checkpoint.load(path)


def test_hugging_face_folder_without_its_parts(shared_dir, tmp_path):
    with pytest.raises(UserError, match=r"no model\.safetensors"):
        checkpoint.load(tmp_path)
    source = shared_dir / "golden/dinov2/hf_dinov2"
    (tmp_path / "model.safetensors").write_bytes((source / "model.safetensors").read_bytes())
    with pytest.raises(UserError, match="give the model's folder"):
        checkpoint.load(tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="cannot read"):
        checkpoint.load(tmp_path)


def test_transformer_without_its_configuration(shared_dir, tmp_path):
    source = checkpoint.load(shared_dir / "golden/ace_g/tiny_head.pt")
    save_file(source.state, tmp_path / "head.safetensors")
    with pytest.raises(UserError, match="lacks the head's configuration"):
        checkpoint.load(tmp_path / "head.safetensors")


def test_catalogue_is_consistent():
    for name, entry in catalogue.ENTRIES.items():
        assert name == entry.name
        assert entry.family in checkpoint.FAMILIES
        assert entry.url.startswith("https://")
        assert entry.url.endswith(entry.file)
        assert len(entry.sha256) in (0, 64)
        assert entry.licence
    assert not catalogue.entry("superpoint").commercial
    assert not catalogue.entry("ace").commercial
    assert catalogue.entry("xfeat").commercial
    with pytest.raises(UserError, match="there are xfeat"):
        catalogue.entry("dinov3")
