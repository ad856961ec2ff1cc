"""Encoder pre-training: it learns and resumes, its file is an extractor, mistakes are one line."""

import json

import encoder_world as world
import jax
import numpy as np
import pytest
from commands import run_commands

from ace_jax.encoder import run as encoder_run
from ace_jax.encoder.batches import Batch
from ace_jax.encoder.presets import get_config
from ace_jax.encoder.steps import create_step, init, losses
from ace_jax.encoder.validation import CONDITIONS
from ace_jax.errors import UserError
from ace_jax.features import registry
from ace_jax.features.extractor import luminance
from ace_jax.features.neighbourhood import neighbourhoods
from ace_jax.models.patch_descriptor import PatchDescriptor, input_shape, multiply_adds
from ace_jax.pretrain.journal import read_metrics
from ace_jax.weights import checkpoint, safetensors_io
from ace_jax.weights.__main__ import main as weights_command

STEPS = 6


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A folder of textures."""
    return world.photographs(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def whole(photographs, tmp_path_factory):
    """The folder of a run that nothing disturbed, and what it printed."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, encoder_run.run(world.config(photographs, steps=STEPS), folder)


def _problem(module, pairs=2, points=48, seed=0):
    """Neighbourhoods of which the second image's are the first's, shuffled and disturbed."""
    rng = np.random.default_rng(seed)
    # All look alike: a common part much larger than what tells them apart.
    common = 3.0 * rng.standard_normal((1, 1, *input_shape(module)))
    own = rng.standard_normal((pairs, points, *input_shape(module)))
    noise = rng.standard_normal((2, *own.shape))
    order = np.stack([rng.permutation(points) for _ in range(pairs)])
    first, second = (common + own + 0.7 * n for n in noise)
    shuffled = np.stack([s[o] for s, o in zip(second, order, strict=True)])
    return Batch(
        np.float32(first), np.float32(shuffled), np.ones((pairs, 2, points), bool),
        np.argsort(order, axis=1).astype(np.int32), np.zeros((pairs, points, points), bool),
    )  # fmt: skip


@pytest.mark.parametrize("inputs", ["histograms", "windows"])
def test_it_learns_a_tiny_problem(inputs):
    config = get_config("smoke")
    config.optimizer.update(learning_rate=3e-3, warmup=5)
    config.steps = 60
    widths = (32,) if inputs == "histograms" else (4, 8)
    module = PatchDescriptor(inputs=inputs, octaves=1, dim=32, widths=widths)
    state = jax.jit(lambda: init(config, module))()
    asked = _problem(module, seed=1000)
    judge = jax.jit(lambda params: losses(params, module, asked))
    before = judge(state.params)
    step = create_step(config, module)
    for number in range(config.steps):
        # The common part is the same in all: it is drawn first.
        state, _ = step(state, _problem(module, seed=number % 8))
    after = jax.jit(lambda params: losses(params, module, _problem(module, seed=0)))(state.params)
    assert float(before["nearest"]) < 0.7
    assert float(after["nearest"]) > float(before["nearest"]) + 0.2
    assert float(after["info_nce"]) < 0.6 * float(before["info_nce"])


def test_padding_and_doubtful_keypoints_change_nothing():
    module = PatchDescriptor(octaves=1, dim=8, widths=(8,))
    config = get_config("smoke")
    params = jax.jit(lambda: init(config, module).params)()
    batch = _problem(module)
    masks, partner, doubtful = (np.array(x) for x in (batch.masks, batch.partner, batch.doubtful))
    gone = partner[:, 0].copy()
    partner[:, 0] = -1
    masks[:, 0, 0] = False
    doubtful[:, 3, 5] = partner[:, 3] != 5
    held = batch.replace(masks=masks, partner=partner, doubtful=doubtful)
    rows = np.arange(len(gone))
    masks2 = masks.copy()
    masks2[rows, 1, gone] = False
    held = held.replace(masks=masks2)
    other = held.replace(first=np.array(held.first), second=np.array(held.second))
    other.first[:, 0] = 1e3
    other.second[rows, gone] = -1e3
    judge = jax.jit(lambda p, batch: losses(p, module, batch))
    one, two = (judge(params, each) for each in (held, other))
    for name in one:
        np.testing.assert_allclose(one[name], two[name], rtol=1e-5)
    grad = jax.jit(jax.grad(lambda p: losses(p, module, held)["info_nce"]))(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grad))


def test_a_run_leaves_metrics_weights_and_a_report(whole):
    folder, printed = whole
    lines = read_metrics(folder)
    assert [line["step"] for line in lines if "info_nce" in line] == list(range(1, STEPS + 1))
    checked = {line["step"]: line for line in lines if "validation" in line}
    assert set(checked) == {0, STEPS}
    assert set(checked[0]["validation"]) == set(CONDITIONS)
    notes = safetensors_io.read(folder / "descriptor.safetensors")[1]
    assert float(notes["score"]) == max(line["score"] for line in checked.values())
    assert json.loads(notes["config"])["widths"] == [32]
    assert "RootSIFT" in printed
    assert "roll 30" in printed
    page = (folder / "encoder_report.html").read_text()
    assert page.count("data:image/svg+xml;base64,") == 3 + len(CONDITIONS)
    assert 'src="http' not in page


class _Killed(Exception):
    pass


def test_interrupted_and_continued_it_has_the_same_parameters(
    whole, photographs, tmp_path, monkeypatch
):
    advance = encoder_run.Trainer.advance

    def advance_and_die(trainer):
        figures = advance(trainer)
        if trainer.step == 3:
            trainer.save()
            trainer._checkpoints.wait()
        if trainer.step == 4:
            raise _Killed
        return figures

    config = world.config(photographs, steps=STEPS)
    monkeypatch.setattr(encoder_run.Trainer, "advance", advance_and_die)
    with pytest.raises(_Killed):
        encoder_run.run(config, tmp_path)
    monkeypatch.setattr(encoder_run.Trainer, "advance", advance)
    encoder_run.run(config, tmp_path)
    for name in ("descriptor.safetensors", "best.safetensors"):
        one, two = (safetensors_io.read(place / name)[0] for place in (whole[0], tmp_path))
        for key in one:
            np.testing.assert_array_equal(one[key], two[key])
    drop = ("seconds",)
    one, two = (
        [{k: v for k, v in line.items() if k not in drop} for line in read_metrics(place)]
        for place in (whole[0], tmp_path)
    )
    assert one == two
    with pytest.raises(UserError, match="another configuration"):
        encoder_run.run(world.config(photographs, steps=STEPS, points=32), tmp_path)


def test_its_file_says_what_it_is(whole, capsys):
    assert weights_command(["info", str(whole[0] / "descriptor.safetensors")]) in (None, 0)
    told = capsys.readouterr().out
    assert "descriptor network" in told
    assert "python -m ace_jax.encoder" in told


def test_its_file_is_an_extractor(whole):
    path = whole[0] / "descriptor.safetensors"
    image = world.texture(9, (160, 120))
    extractor = registry.create("learned_blobs", path, max_features=80)
    features = extractor.extract(image)
    again = registry.create("learned_blobs", whole[0], max_features=80, levels=2)
    assert extractor.dim == 16
    assert again.extract(image).mask.any()
    assert extractor.weights_checksum == again.weights_checksum
    mask = np.asarray(features.mask)
    assert mask.sum() > 20
    norms = np.linalg.norm(np.asarray(features.descriptors), axis=1)
    np.testing.assert_allclose(norms[mask], 1.0, atol=1e-5)
    assert not norms[~mask].any()
    blobs = registry.create("blobs", max_features=80).extract(image)
    np.testing.assert_allclose(features.uv, blobs.uv, atol=1e-3)
    assert "every tensor fits" in checkpoint.verify(path)


@pytest.mark.parametrize("inputs", ["histograms", "windows"])
def test_what_an_oriented_network_sees_turns_with_the_image(inputs):
    image = world.texture(3, (128, 128))
    module = PatchDescriptor(inputs=inputs, octaves=2, oriented=True)
    uv = np.random.default_rng(0).uniform(48, 80, (40, 2)).astype(np.float32)
    turned = np.stack([uv[:, 1], 127 - uv[:, 0]], axis=1)  # by a quarter, against the clock
    see = jax.jit(lambda image, uv: neighbourhoods(module, luminance(image), uv))
    one = np.asarray(see(image, uv)).reshape(40, -1)
    two = np.asarray(see(np.rot90(image).copy(), turned)).reshape(40, -1)
    cosine = (one * two).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)
    assert np.median(cosine) > 0.98


def test_what_a_keypoint_costs():
    assert multiply_adds(PatchDescriptor()) == 256 * 256 + 256 * 256 + 256 * 64
    windows = PatchDescriptor(inputs="windows", octaves=2, widths=(8, 24))
    assert multiply_adds(windows) == 64 * 9 * 2 * 8 + 16 * 9 * 8 * 24 + 16 * 24 * 64


def test_mistakes_are_one_line(whole, photographs, tmp_path):
    (tmp_path / "empty").mkdir()
    other = tmp_path / "other.safetensors"
    tensors, notes = safetensors_io.read(whole[0] / "descriptor.safetensors")
    safetensors_io.write(other, tensors, notes | {"config": "{}"})
    bare = tmp_path / "bare.safetensors"
    safetensors_io.write(bare, tensors, {})
    for path, message in (
        (other, "get another file"),
        (bare, "lacks the metadata"),
        (tmp_path / "nothing", "train them by"),
    ):
        with pytest.raises(UserError, match=message):
            registry.create("learned_blobs", path)
    for change, message in (
        ({"image_size": (100, 75)}, "multiples of 8"),
        ({"points": 0}, "config.points is 0"),
    ):
        with pytest.raises(UserError, match=message):
            encoder_run.run(world.config(photographs, **change), tmp_path / "run")
    config = world.config(photographs)
    config.network.inputs = "colours"
    with pytest.raises(UserError, match="choose one of histograms, windows"):
        encoder_run.run(config, tmp_path / "run")


def test_the_commands_mistakes_are_one_line(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from ace_jax.encoder import config\n"
        "from ace_jax.encoder.presets import smoke\n"
        "def get_config():\n"
        "    made = smoke()\n"
        "    made.sources = {'mine': config.photos('no-such-folder')}\n"
        "    return made\n"
    )
    given = ["--workdir", str(tmp_path / "run")]
    cases = {
        "the presets are cpu, windows, smoke": ["encoder", "--config", "huge", *given],
        "say --config": ["encoder", *given],
        "missing --workdir": ["encoder", "--config", "smoke"],
        "no such field": ["encoder", "--config", "smoke", "--config.stpes=3", *given],
        "no folder no-such-folder": ["encoder", "--config", str(mine), *given],
    }
    for message, done in zip(cases, run_commands(list(cases.values()), tmp_path), strict=True):
        assert done.code == 2, done.err
        assert message in done.err
        assert len(done.err.strip().splitlines()) == 1
