"""Parts that a program registers or an installed package brings; a map that was made with one."""

import runpy
import sys

import numpy as np
import pytest
from repository import REPO
from slam_scene import RoomSource

from ace_jax.data.export import export
from ace_jax.data.registry import FORMATS, find_format
from ace_jax.data.verbs.listing import listing
from ace_jax.errors import UserError
from ace_jax.features import registry
from ace_jax.features.sift import Sift
from ace_jax.features.similarity import Similarity, similarity
from ace_jax.localization.relocalizer import Relocalizer
from ace_jax.models.scene_coordinate_heads import HEADS, TriMLP, create_head

MODULE = """
from ace_jax.data.registry import Format
from ace_jax.features.sift import Sift
from ace_jax.features.similarity import Similarity
from ace_jax.models.scene_coordinate_heads import TriMLP

class Mine(Sift):
    name = "mine"
    similarity = Similarity(min_cosine=0.5)

READER = Format("mine/FOLDER", "plugin_module", "my folders")

def open_named(rest, root):
    return (rest, root)
"""


@pytest.fixture
def install(monkeypatch, tmp_path):
    """Puts a package with entry points where Python looks for packages."""

    def put(package: str, points: dict[str, dict[str, str]], code: str = MODULE) -> None:
        folder = tmp_path / package
        info = folder / f"{package}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [
            line
            for group, found in points.items()
            for line in (f"[{group}]", *(f"{name} = {value}" for name, value in found.items()))
        ]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
        (folder / f"{package}_module.py").write_text(code)
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.delitem(sys.modules, f"{package}_module", raising=False)

    yield put
    for name in [name for name in sys.modules if name.endswith("_module")]:
        del sys.modules[name]


@pytest.fixture
def extractors(monkeypatch):
    """What is registered here is forgotten afterwards."""
    monkeypatch.setattr(registry._EXTRACTORS, "data", dict(registry._EXTRACTORS.data))
    return registry


def test_an_installed_package_brings_an_extractor(install):
    install("plugin", {"ace_jax.features": {"mine": "plugin_module:Mine"}})
    assert "mine" in registry.names()
    assert "plugin_module" not in sys.modules  # imported when it is asked for
    extractor = registry.create("mine", max_features=7)
    assert (extractor.name, extractor.max_features) == ("mine", 7)
    assert similarity("mine").min_cosine == 0.5
    assert similarity("nothing") == Similarity()
    with pytest.raises(UserError, match=r"unknown features 'other'; there are .*mine.*installed"):
        registry.create("other")


def test_an_installed_package_brings_a_head_and_a_reader(install, tmp_path):
    install(
        "plugin",
        {
            "ace_jax.heads": {"mine": "plugin_module:TriMLP"},
            "ace_jax.readers": {"mine": "plugin_module:READER"},
        },
    )
    assert create_head("mine", cells=3) == TriMLP(cells=3)
    with pytest.raises(UserError, match=r"no head is called 'other'; choose one of .*mine"):
        create_head("other")
    found, rest = find_format("mine/kitchen")
    assert found.load().open_named(rest, tmp_path) == ("kitchen", tmp_path)
    assert "mine/..." in listing(tmp_path)
    with pytest.raises(UserError, match="no sequence 'other/kitchen'"):
        find_format("other/kitchen")


def test_defects_of_a_package_are_one_line(install):
    install("broken", {"ace_jax.features": {"mine": "broken_module:Mine"}}, "import nothing_here")
    with pytest.raises(UserError, match=r"'mine' of the package broken cannot be imported \(Mod"):
        registry.create("mine")
    install("plugin", {"ace_jax.features": {"mine": "plugin_module:Mine"}})
    with pytest.raises(UserError, match="plugin and broken both bring 'mine'; uninstall one"):
        registry.create("mine")


def test_a_package_replaces_nothing(install):
    install("plugin", {"ace_jax.features": {"sift": "plugin_module:Mine"}})
    assert type(registry.create("sift")) is Sift
    assert registry.names().count("sift") == 1


def test_registering(extractors):
    class Mine(Sift):
        name = "mine"

    for _ in range(2):  # a module may be run twice
        registry.register("mine", Mine)
    assert registry.create("mine").name == "mine"
    with pytest.raises(UserError, match="the name 'sift' is taken"):
        registry.register("sift", Mine)
    registry.register("other", Mine)
    with pytest.raises(UserError, match="registered as 'other' has the name 'mine'"):
        registry.create("other")


def test_registered_heads_and_readers(monkeypatch):
    for known in (HEADS, FORMATS):
        monkeypatch.setattr(known, "data", dict(known.data))
    HEADS.register("mine", TriMLP)
    assert create_head("mine", cells=5) == TriMLP(cells=5)
    FORMATS.register("mine", FORMATS["folder"])
    assert find_format("mine/x") == (FORMATS["folder"], "x")


def test_the_example_maps_loads_and_asks(extractors, monkeypatch, tmp_path):
    export(RoomSource(16), tmp_path / "recording", "folder")
    path = tmp_path / "orb.safetensors"
    example = REPO / "examples" / "own_features.py"
    known = dict(extractors._EXTRACTORS.data)
    errors = runpy.run_path(str(example))["main"](str(tmp_path / "recording"), str(path))
    assert len(errors) == 8
    assert np.median(errors) < 2.0

    # Nobody has registered it in a program of one's own.
    monkeypatch.setattr(extractors._EXTRACTORS, "data", known)
    with pytest.raises(UserError, match=r"unknown features 'orb'; there are .* registered them"):
        Relocalizer.load(path)
    orb = runpy.run_path(str(example))["Orb"]
    relocalizer = Relocalizer.load(path)
    assert type(relocalizer.extractor) is orb
    assert relocalizer.extractor.max_features == 1000
    frame = RoomSource(16)[3]
    answer = relocalizer(frame.rgb, frame.camera)
    assert answer.success
    apart = answer.world_from_camera[:3, 3] - frame.world_from_camera[:3, 3]
    assert np.linalg.norm(apart) < 0.02


def test_the_page_shows_the_examples_extractor():
    code = (REPO / "examples" / "own_features.py").read_text()
    orb = code[code.index("class Orb:") : code.index("\n\n\nregistry.register")]
    assert orb in (REPO / "docs" / "extending.md").read_text()
