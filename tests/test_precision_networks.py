"""Networks keep 11 bits where accelerators round, and their sums are float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from products import MANTISSA, products, rounded

from ace_jax.models.ace_encoder import AceEncoder
from ace_jax.models.landmark_transformer import LandmarkTransformer, code_of
from ace_jax.models.map_code_transformer import MapCodeTransformer, attention
from ace_jax.models.scene_coordinate_heads import create_head
from ace_jax.models.superpoint import SuperPoint
from ace_jax.models.vit import VisionTransformer, ViTConfig
from ace_jax.models.xfeat import XFeat

KEY = jax.random.key(0)
FULL = (lax.Precision.HIGHEST, lax.Precision.HIGHEST)
AT_LEAST_11_BITS = (FULL, (lax.Precision.HIGH, lax.Precision.HIGH))


def _unit(rng: np.random.Generator, count: int, dim: int = 64) -> np.ndarray:
    x = rng.normal(size=(count, dim))
    return np.float32(x / np.linalg.norm(x, axis=1, keepdims=True))


@pytest.mark.parametrize("kind", MANTISSA)
def test_rounded_operands_do_not_change_what_the_landmark_transformer_is_sure_of(kind):
    rng = np.random.default_rng(6)
    points = np.float32(rng.uniform(-4, 4, (1000, 3)) + np.array([50, 0, -20]))
    keys = _unit(rng, len(points))
    queries = keys[:100]
    head = LandmarkTransformer(dim=64, blocks=2, tau=160.0)
    code = code_of(keys, points, np.ones(len(keys), bool))
    found = rounded(head.apply, kind)(jax.jit(head.init)(KEY, queries[:1], code), queries, code)
    # Each asks for itself: the scale is its floor, 1 mm.
    assert np.max(np.linalg.norm(found.xyz - points[: len(queries)], axis=1)) < 2e-3
    assert np.max(found.scale) < 5e-3


@pytest.mark.parametrize("kind", MANTISSA)
def test_rounded_operands_do_not_change_what_planes_are_sure_of(kind):
    head = create_head("tri_mlp", width=16, layers=1, cells=24)
    queries = _unit(np.random.default_rng(0), 4, 16)
    variables = jax.jit(head.init)(KEY, queries)
    params = jax.tree.map(jnp.zeros_like, variables["params"])
    cell = np.array([3, 11, 20])
    bias = np.zeros((3, 24, 24), np.float32)
    for plane, (row, column) in enumerate(((0, 1), (0, 2), (1, 2))):
        bias[plane, cell[row], cell[column]] = 50.0
    params["planes"]["bias"] = bias.ravel()
    found = rounded(head.apply, kind)({**variables, "params": params}, queries)
    np.testing.assert_allclose(found.xyz, np.tile((cell + 0.5) / 3 - 4, (4, 1)), atol=1e-5)
    np.testing.assert_allclose(found.scale, np.sqrt(3) / 3 * 1e-2, rtol=1e-3)  # the floor


def _networks():
    rng = np.random.default_rng(7)
    queries, code = _unit(rng, 40, 32), np.float32(rng.normal(size=(50, 32)))
    yield "homogeneous_mlp", create_head("homogeneous_mlp", width=48), (queries,)
    yield "tri_mlp", create_head("tri_mlp", width=48, layers=2), (queries,)
    yield "map_code_transformer", MapCodeTransformer(32, 2, 4), (queries, code)
    image = np.float32(rng.uniform(size=(1, 32, 48)))
    for module in (AceEncoder(16), XFeat(), SuperPoint()):
        yield type(module).__name__, module, (image,)
    config = ViTConfig(dim=24, depth=1, heads=2)
    yield "ViT", VisionTransformer(config), (np.float32(rng.normal(size=(1, 28, 42, 3))),)


NETWORKS = {name: rest for name, *rest in _networks()}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_keep_at_least_11_bits_forwards_and_backwards(name):
    module, inputs = NETWORKS[name]
    variables = jax.eval_shape(module.init, KEY, *inputs)

    def loss(variables):
        return sum(jnp.sum(x) for x in jax.tree.leaves(module.apply(variables, *inputs)))

    found = products(jax.grad(loss), variables)
    assert len(found) > 4
    low = [text for text, precision in found if precision not in AT_LEAST_11_BITS]
    assert low == []


@pytest.mark.parametrize("name", ["homogeneous_mlp", "tri_mlp", "map_code_transformer"])
def test_rounded_operands_move_what_networks_answer_by_little(name):
    module, inputs = NETWORKS[name]
    variables = jax.jit(module.init)(KEY, *inputs)
    exact = jax.jit(module.apply)(variables, *inputs).xyz
    for kind in MANTISSA:
        moved = rounded(module.apply, kind)(variables, *inputs).xyz - exact
        # 11 bits: about 0.001 of the spread; 8 bits would be 0.005.
        assert np.sqrt(np.mean(moved**2)) < 2.5e-3 * np.std(exact, axis=0).max(), kind


def test_sums_are_float32_where_operands_are_bfloat16():
    """One value for all rows comes back exactly, whatever the weights of 4096 rows."""
    rng = np.random.default_rng(8)
    q, k = (jnp.asarray(rng.normal(size=(n, 64)), jnp.bfloat16) for n in (10, 4096))
    found = attention(q, k, jnp.ones((4096, 64), jnp.bfloat16), 2)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, 1.0, atol=2e-4)


def test_the_residual_stream_is_float32_where_operands_are_bfloat16():
    module, inputs = NETWORKS["map_code_transformer"]
    variables = jax.eval_shape(module.init, KEY, *inputs)
    half = module.clone(dtype=jnp.bfloat16)

    def apply(variables):
        return half.apply(
            variables, *inputs, capture_intermediates=lambda m, _: type(m).__name__ == "_Block"
        )

    blocks = jax.tree.leaves(jax.eval_shape(apply, variables)[1]["intermediates"])
    assert len(blocks) == module.blocks
    assert all(x.dtype == jnp.float32 for x in blocks)
