"""docs/extending.md: its three examples are code that works."""

import re

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from repository import REPO
from slam_scene import render

from ace_jax.data.frame import FrameSource
from ace_jax.data.registry import FORMATS, Format, open_sequence
from ace_jax.errors import UserError
from ace_jax.features import registry
from ace_jax.models.scene_coordinate_heads import HEADS, create_head


@pytest.fixture(scope="module")
def examples():
    """The namespaces of the code blocks, by the heading that they stand under."""
    text = (REPO / "docs" / "extending.md").read_text()
    found = {}
    for title, block in re.findall(r"^## (.*?)$.*?```python\n(.*?)```", text, re.M | re.S):
        found[title] = {"__name__": "example"}
        exec(compile(block, title, "exec"), found[title])
    assert list(found) == ["A feature extractor", "A head", "A data set"]
    return found


def test_a_feature_extractor(examples, monkeypatch):
    monkeypatch.setitem(registry._EXTRACTORS, "orb", examples["A feature extractor"]["Orb"])
    extractor = registry.create("orb", max_features=100)
    features = extractor.extract(render(0)[0])
    assert features.descriptors.shape == (100, 256)
    mask = np.asarray(features.mask)
    assert mask.sum() > 50
    norms = np.linalg.norm(features.descriptors, axis=1)
    np.testing.assert_allclose(norms[mask], 1.0, rtol=1e-5)
    blank = extractor.extract(np.zeros((240, 320, 3), np.uint8))
    assert not blank.mask.any()


def test_a_head(examples, monkeypatch):
    monkeypatch.setitem(HEADS, "linear", examples["A head"]["LinearHead"])
    head = create_head("linear", width=8)
    variables = jax.jit(head.init)(jax.random.key(0), jnp.zeros((1, 4)))
    out = jax.jit(head.apply)(variables, 1e3 * jax.random.normal(jax.random.key(1), (5, 4)))
    assert out.xyz.shape == (5, 3)
    assert (np.asarray(out.scale) > 0).all()


def test_a_data_set(examples, monkeypatch, tmp_path):
    class Pairs(Format):
        def load(self):
            return type("module", (), {"open_named": staticmethod(opened)})

    opened = examples["A data set"]["open_named"]
    monkeypatch.setitem(FORMATS, "pairs", Pairs("pairs/FOLDER", "", ""))
    with pytest.raises(UserError, match="pairs/room not found"):
        open_sequence("pairs/room", tmp_path)
    folder = tmp_path / "pairs" / "room"
    folder.mkdir(parents=True)
    for name in "ab":
        cv2.imwrite(str(folder / f"{name}.jpg"), np.full((480, 640, 3), 99, np.uint8))
        np.save(folder / f"{name}.npy", np.full((480, 640), 2.5))
    source = open_sequence("pairs/room", tmp_path)
    assert isinstance(source, FrameSource)
    assert source.names() == ["a", "b"]
    frame = source[1]
    assert frame.depth.dtype == np.float32
    assert frame.timestamp == pytest.approx(1 / 30)


def test_the_sites_tables_are_those_of_the_pages():
    namespace = {"__file__": str(REPO / "docs" / "hooks.py")}
    exec((REPO / "docs" / "hooks.py").read_text(), namespace)
    shown = re.findall(
        r"<!-- table of: (\S+) (\S+) -->", (REPO / "docs" / "benchmarks.md").read_text()
    )
    assert len(shown) > 4
    for page, name in shown:
        assert namespace["table"](page, name).startswith("|")
    with pytest.raises(ValueError, match="no table 'nothing'"):
        namespace["table"]("slam-figures.md", "nothing")
