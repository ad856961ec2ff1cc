"""Against the other libraries themselves, where they are installed."""

import jax
import numpy as np
import pytest

from ace_jax.weights import checkpoint, dinov2
from ace_jax.weights.formats import WeightsFile
from ace_jax.weights.torch_reader import read_torch


def _error(result, expected):
    return np.linalg.norm(np.asarray(result) - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("zipped", [True, False])
def test_torch_files_of_every_type(tmp_path, zipped):
    torch = pytest.importorskip("torch")
    types = (
        "float32",
        "float16",
        "bfloat16",
        "float64",
        "int64",
        "int32",
        "int16",
        "uint8",
        "bool",
    )
    base = torch.arange(24).reshape(2, 3, 4)
    content = {name: base.to(getattr(torch, name)) for name in types}
    content |= {"view": base.float()[:, 1, ::2], "transposed": base.float().mT, "empty": base[:0]}
    content |= {"parameter": torch.nn.Parameter(base.float()), "scalar": torch.tensor(3.5)}
    content |= {"plain": [1, -2, 2**40, 1.5, "text", None, True, (1, 2), {"a": torch.Size([3])}]}
    torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    read = read_torch(tmp_path / "x.pt")
    assert read.pop("plain") == [1, -2, 2**40, 1.5, "text", None, True, (1, 2), {"a": (3,)}]
    for name, array in read.items():
        expected = content[name].detach().to(torch.float64).numpy()
        np.testing.assert_array_equal(array.astype(np.float64), expected)
        assert name not in types or array.dtype.name == name


def test_bfloat16_checkpoints_are_converted(shared_dir, tmp_path):
    torch = pytest.importorskip("torch")
    state = checkpoint.load(shared_dir / "golden/ace/encoder_random.pt").state
    half = {name: torch.tensor(array.copy()).bfloat16() for name, array in state.items()}
    torch.save(half, tmp_path / "x.pt")
    source = checkpoint.load(tmp_path / "x.pt")
    checkpoint.save(source, tmp_path / "x.safetensors")
    again = checkpoint.load(tmp_path / "x.safetensors")
    assert again.state["conv1.weight"].dtype.name == "bfloat16"
    assert again.checksum == source.checksum


@pytest.mark.parametrize("registers", [0, 4])
def test_timm(registers):
    timm = pytest.importorskip("timm")
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = timm.models.vision_transformer.VisionTransformer(
        img_size=518,
        patch_size=14,
        embed_dim=64,
        depth=2,
        num_heads=1,
        init_values=1.0,
        num_classes=0,
        reg_tokens=registers,
        no_embed_class=bool(registers),
        dynamic_img_size=True,
    ).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    tensors = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    module, params = dinov2.build(*dinov2.convert(WeightsFile("timm", "torch", tensors, {}, {})))
    image = np.random.default_rng(0).normal(size=(1, 70, 98, 3)).astype(np.float32)
    with torch.inference_mode():
        expected = model.forward_features(torch.tensor(image).permute(0, 3, 1, 2)).numpy()
    features = jax.jit(module.apply)({"params": params}, image)
    assert _error(features.patches.reshape(1, -1, 64), expected[:, 1 + registers :]) < 1e-4
    assert _error(features.class_token, expected[:, 0]) < 1e-4


def test_transformers(shared_dir):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    folder = shared_dir / "golden/dinov2/hf_dinov2"
    model = transformers.Dinov2Model.from_pretrained(folder).eval()
    module, params = checkpoint.load(folder).build()
    image = np.random.default_rng(0).normal(size=(2, 42, 56, 3)).astype(np.float32)
    with torch.inference_mode():
        expected = model(torch.tensor(image).permute(0, 3, 1, 2)).last_hidden_state.numpy()
    features = jax.jit(module.apply)({"params": params}, image)
    assert _error(features.patches.reshape(2, -1, 48), expected[:, 1:]) < 1e-4


def test_onnxruntime(shared_dir):
    onnxruntime = pytest.importorskip("onnxruntime")
    path = shared_dir / "weights/xfeat.onnx"
    module, params = checkpoint.load(path).build()
    image = np.random.default_rng(0).random((1, 96, 128), np.float32)
    session = onnxruntime.InferenceSession(path)
    outputs = session.run(None, {"input": np.repeat(image[:, None], 3, axis=1)})
    maps = jax.jit(module.apply)({"params": params}, image)
    for name, expected in zip(("descriptors", "keypoint_logits"), outputs, strict=False):
        assert _error(getattr(maps, name), np.moveaxis(expected, 1, -1)) < 1e-4
