"""DINOv2 against the official modules, in every layout that others publish."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from repository import GOLDEN

from ace_jax.errors import UserError
from ace_jax.models import vit
from ace_jax.models.vit import VisionTransformer, ViTConfig, interpolate_positions
from ace_jax.weights import checkpoint, dinov2
from ace_jax.weights.formats import WeightsFile
from ace_jax.weights.layout import to_checkpoint

HEADS = {"a_noreg": 6, "b_reg4": 3, "c_swiglu": 3}


def _load(shared_dir, name):
    loaded = checkpoint.load(shared_dir / f"golden/dinov2/{name}.pth", "dinov2")
    # Official heads are 64 wide; these small models' are not.
    loaded = dataclasses.replace(loaded, config=loaded.config | {"heads": HEADS[name]})
    return loaded.build()


def _image(shared_dir, size):
    return np.moveaxis(np.load(shared_dir / "golden/dinov2/inputs.npz")[f"img_{size}"], 1, -1)


def _tokens(module, params, image):
    return jax.jit(lambda p, x: module.apply({"params": p}, x, method="tokens"))(params, image)


def _error(result, expected):
    expected = np.asarray(expected).reshape(result.shape)
    return np.linalg.norm(result - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("a_noreg", "70x98"),
        ("a_noreg", "126x168"),
        ("b_reg4", "224x224"),
        ("b_reg4", "70x98"),
        ("c_swiglu", "70x98"),
    ],
)
def test_equals_the_official_module(shared_dir, name, size):
    module, params = _load(shared_dir, name)
    expected = np.load(shared_dir / f"golden/dinov2/{name}_outputs.npz")
    features = jax.jit(lambda p, x: module.apply({"params": p}, x, (0, -1), False))(
        params, _image(shared_dir, size)
    )
    assert _error(features.patches, expected[f"x_norm_patchtokens_{size}"]) < 1e-5
    assert _error(features.class_token, expected[f"x_norm_clstoken_{size}"]) < 1e-5
    if name == "b_reg4":
        assert _error(features.registers, expected[f"x_norm_regtokens_{size}"]) < 1e-5
    if size == "224x224":
        return
    last = features.layers[1]
    first = 1 + module.config.registers
    stored = np.moveaxis(expected[f"interm_last_nonorm_reshaped_{size}"], 1, -1)
    assert _error(last[:, first:], stored) < 1e-5
    assert _error(last[:, 0], expected[f"interm_last_nonorm_cls_{size}"]) < 1e-5


def test_one_block_equals_the_official_module():
    with np.load(GOLDEN / "dinov2_block.npz") as file:
        values = {name: file[name] for name in file.files}
    state = {name[6:]: value for name, value in values.items() if name.startswith("state/")}
    config = ViTConfig(dim=48, depth=1, heads=3, ffn="swiglu")
    module, params = dinov2.build(state, dataclasses.asdict(config))
    image = values["image_times_32"].astype(np.float32) / 32
    tokens = _tokens(module, params, image)
    np.testing.assert_allclose(tokens, values["tokens"], atol=5e-5)
    features = jax.jit(module.apply)({"params": params}, image)
    assert _error(features.patches, values["patches"]) < 1e-5


def test_intermediate_layers_through_the_final_norm(shared_dir):
    module, params = _load(shared_dir, "a_noreg")
    expected = np.load(shared_dir / "golden/dinov2/a_noreg_outputs.npz")
    features = jax.jit(lambda p, x: module.apply({"params": p}, x, (0,)))(
        params, _image(shared_dir, "70x98")
    )
    stored = expected["interm_layer0_norm_70x98"]
    if stored.ndim == 4:
        stored = np.moveaxis(stored, 1, -1)
    tokens = features.layers[0][:, -stored.reshape(1, -1, 96).shape[1] :]
    assert _error(tokens, stored) < 1e-5


@pytest.mark.parametrize("name", HEADS)
def test_position_embeddings_follow_the_size_as_upstream(shared_dir, name):
    module, params = _load(shared_dir, name)
    expected = np.load(shared_dir / f"golden/dinov2/{name}_outputs.npz")
    positions = interpolate_positions(params["pos_embed"][:, 1:], 5, 7, module.config.interpolation)
    np.testing.assert_allclose(positions, expected["pos_interp_70x98"][:, 1:], atol=1e-5)
    tokens = _tokens(module, params, _image(shared_dir, "70x98"))
    np.testing.assert_allclose(tokens, expected["tokens_after_prepare_70x98"], atol=5e-5)


@pytest.mark.parametrize("name", HEADS)
def test_bfloat16(shared_dir, name):
    module, params = _load(shared_dir, name)
    expected = np.load(shared_dir / f"golden/dinov2/{name}_outputs.npz")
    half = VisionTransformer(module.config, dtype=jnp.bfloat16)
    features = jax.jit(half.apply)({"params": params}, _image(shared_dir, "70x98"))
    assert features.patches.dtype == jnp.float32
    assert _error(features.patches, expected["x_norm_patchtokens_70x98"]) < 1e-2


@pytest.mark.parametrize("name", ["hf_dinov2", "hf_dinov2_reg"])
def test_equals_hugging_face(shared_dir, name):
    module, params = checkpoint.load(shared_dir / f"golden/dinov2/{name}").build()
    expected = np.load(shared_dir / f"golden/dinov2/{name}_outputs.npz")
    features = jax.jit(module.apply)({"params": params}, _image(shared_dir, "70x98"))
    first = 1 + module.config.registers
    hidden = expected["last_hidden_state_70x98"]
    assert _error(features.patches, hidden[:, first:]) < 1e-5
    assert _error(features.class_token, expected["pooler_output_70x98"]) < 1e-5


def test_timm_layout_is_the_same_function_except_for_positions(shared_dir):
    """timm's conversion of the official files, undone: register, SwiGLU and position names."""
    loaded = checkpoint.load(shared_dir / "golden/dinov2/b_reg4.pth")
    timm = dict(loaded.state)
    timm["reg_token"] = timm.pop("register_tokens")
    timm["cls_token"] = timm["cls_token"] + timm["pos_embed"][:, :1]
    timm["pos_embed"] = timm["pos_embed"][:, 1:]
    file = WeightsFile(loaded.path, "torch", timm, {}, {})
    state, config = dinov2.convert(file)
    assert config == loaded.config
    _, params = dinov2.build(state, config | {"heads": 3})
    module, official = _load(shared_dir, "b_reg4")
    image = _image(shared_dir, "70x98")
    np.testing.assert_allclose(
        _tokens(module, params, image), _tokens(module, official, image), atol=1e-6
    )
    swiglu = dict(checkpoint.load(shared_dir / "golden/dinov2/c_swiglu.pth").state)
    for name in [n for n in swiglu if ".mlp." in n]:
        swiglu[name.replace("w12", "fc1").replace("w3", "fc2")] = swiglu.pop(name)
    file = WeightsFile(loaded.path, "torch", swiglu, {}, {})
    state, config = dinov2.convert(file)
    assert config["ffn"] == "swiglu"
    assert config["interpolation"] == "antialias"
    dinov2.build(state, config)


def test_published_models_have_exactly_our_names_and_shapes(shared_dir):
    manifest = (shared_dir / "golden/manifests/dinov2_official_shapes.json").read_text()
    for name, model in json.loads(manifest).items():
        shapes = {key: entry[0] for key, entry in model["keys_nonblock_and_block0"].items()}
        block = {key: shape for key, shape in shapes.items() if key.startswith("blocks.0.")}
        assert len(shapes) + (model["depth"] - 1) * len(block) == model["num_keys"]
        shapes |= {key.replace("blocks.0.", "blocks.1."): shape for key, shape in block.items()}
        # Broadcast zeros: no memory, whatever the size.
        tensors = {key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()}
        state, config = dinov2.convert(WeightsFile(name, "torch", tensors, {}, {}))
        assert config["heads"] == model["num_heads"]
        assert config["interpolation"] == ("antialias" if "reg4" in name else "offset")
        module = VisionTransformer(ViTConfig(**config))
        template = jax.eval_shape(module.init, jax.random.key(0), np.zeros((1, 14, 14, 3)))
        ours = to_checkpoint(
            jax.tree.map(lambda x: np.broadcast_to(np.float32(0), x.shape), template["params"])
        )
        assert {key: x.shape for key, x in ours.items()} == {
            key: x.shape for key, x in state.items()
        }


def test_checkpointing_recomputes_blocks_and_changes_nothing():
    config = ViTConfig(8, 1, 2)
    image = np.random.default_rng(0).normal(size=(1, 14, 28, 3)).astype(np.float32)
    plain, again = VisionTransformer(config), VisionTransformer(config, checkpoint=True)
    shapes = jax.eval_shape(plain.init, jax.random.key(1), image)
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)
    np.testing.assert_allclose(
        jax.jit(plain.apply)(params, image).patches,
        jax.jit(again.apply)(params, image).patches,
        atol=1e-4,
    )

    def traced(module):
        gradient = jax.grad(lambda p: jnp.sum(module.apply(p, image).patches))
        return str(jax.make_jaxpr(gradient)(params))

    # Attention recomputes its scores in any case.
    assert traced(again).count("remat") > traced(plain).count("remat")


def test_attention_by_blocks_equals_attention(monkeypatch):
    monkeypatch.setattr(vit, "_QUERY_BLOCK", 10)
    q, k, v, weights = np.random.default_rng(0).normal(size=(4, 1, 23, 2, 4)).astype(np.float32)

    def run(attention):
        def weighted(q, k, v):
            return jnp.sum(attention(q, k, v) * weights)

        return jax.jit(jax.value_and_grad(weighted, argnums=(0, 1, 2)))(q, k, v)

    blocked, expected = run(vit._attention_by_blocks), run(vit._fused_attention)
    for a, b in zip(jax.tree.leaves(blocked), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_image_that_is_no_multiple_of_the_patch():
    module = VisionTransformer(ViTConfig(8, 1, 1))
    with pytest.raises(ValueError, match="multiples of 14"):
        module.init(jax.random.key(0), jnp.zeros((1, 20, 28, 3)))


def test_missing_and_extra_names_are_all_told(shared_dir):
    loaded = checkpoint.load(shared_dir / "golden/dinov2/a_noreg.pth")
    state = dict(loaded.state)
    state.pop("norm.bias")
    state["blocks.1.ls1.gamma"] = state["blocks.1.ls1.gamma"][:5]
    state["head.weight"] = np.zeros(3)
    broken = dataclasses.replace(loaded, state=state)
    with pytest.raises(UserError) as info:
        broken.build()
    for part in ("missing norm.bias", "unexpected head.weight", "blocks.1.ls1.gamma has shape"):
        assert part in str(info.value)
