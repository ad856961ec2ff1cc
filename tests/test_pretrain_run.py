"""Runs of toy scenes: killed and continued, on one device and eight, on two hosts."""

import json
import os
import shutil
import socket
import subprocess
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pretrain_world as world
import pytest
from repository import REPO

from ace_jax.errors import UserError
from ace_jax.pretrain.export import BEST, Best
from ace_jax.pretrain.forms import create_form
from ace_jax.pretrain.journal import Journal, read_metrics
from ace_jax.pretrain.pool import Ahead, Pool
from ace_jax.weights import safetensors_io

STEPS = 6


def _start(folder, devices=1, save_every=2, kill_at=0, hosts=(), report=False):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(REPO), "JAX_PLATFORMS": "cpu"}
    if report:
        environment["WITH_REPORT"] = "1"
    arguments = [str(x) for x in (folder, STEPS, save_every, kill_at, *hosts)]
    return subprocess.Popen(
        [sys.executable, str(REPO / "tests/pretrain_process.py"), *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _run(*arguments, code=0, **options):
    process = _start(*arguments, **options)
    _, errors = process.communicate(timeout=900)
    assert process.returncode == code, errors[-3000:]
    return errors


def _losses(folder):
    lines = [line for line in read_metrics(folder) if "query_loss" in line]
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    return np.array([[line["mapping_loss"], line["query_loss"]] for line in lines])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    _run(folder, report=True)
    return folder


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The folder of a run that was killed."""
    folder = tmp_path_factory.mktemp("killed")
    _run(folder, kill_at=5, code=-9)
    return folder


def test_a_run_leaves_metrics_a_transformer_and_a_report(whole):
    losses = _losses(whole)
    assert np.isfinite(losses).all()
    checked = {line["step"]: line["validation"] for line in read_metrics(whole)
               if "validation" in line}  # fmt: skip
    assert set(checked) == {0, STEPS}  # before training, too
    for figures in checked.values():
        assert {"right", "surest_right", "order", "pose_5cm_5deg", "score"} <= figures.keys()
    page = (whole / "pretrain_report.html").read_text()
    assert (
        page.count("data:image/svg+xml;base64,") == 5
    )  # losses, validation, calibration, 2 scenes
    assert 'src="http' not in page


def test_the_exported_transformer_is_the_best_one_in_validation(whole):
    scores = {line["step"]: line["validation"]["score"] for line in read_metrics(whole)
              if "validation" in line}  # fmt: skip
    (tensors, notes), (best, kept) = (
        safetensors_io.read(whole / name) for name in ("transformer.safetensors", BEST)
    )
    assert float(kept["score"]) == max(scores.values()) == scores[int(notes["step"])]
    assert notes["step"] == kept["step"]
    for name in tensors:
        np.testing.assert_array_equal(tensors[name], best[name])


def test_the_best_transformer_survives_an_interruption(tmp_path):
    config = world.config()
    form = create_form(config, world.DIM)
    extractor = SimpleNamespace(name="toy", weights_checksum="toy")
    made = [jax.jit(form.init_transformer)(jax.random.key(i)) for i in range(3)]
    path = tmp_path / BEST
    best = Best(path, form, extractor, resumed=False, writes=True)
    assert best.offer(0, 30.0, made[0])
    assert best.offer(5, 40.0, made[1])
    assert not best.offer(10, 40.0, made[2])  # not better
    assert not best.offer(10, float("nan"), made[2])
    again = Best(path, form, extractor, resumed=True, writes=True)
    assert (again.step, again.score) == (5, 40.0)
    jax.tree.map(np.testing.assert_array_equal, again.transformer, made[1])
    other = Best(path, form, extractor, resumed=False, writes=False)  # another run begins
    assert other.transformer is None
    assert other.offer(0, 20.0, made[2])
    assert safetensors_io.read(path)[1]["step"] == "5"  # the first process writes


def test_the_exported_transformer_is_read_by_its_family(whole):
    from ace_jax.weights.shared_transformer import load_transformer

    shared = load_transformer(str(whole / "transformer.safetensors"), None)
    assert (shared.head, shared.dim_in) == ("map_code_transformer", world.DIM)
    assert (shared.module.dim, shared.module.blocks, shared.module.heads) == (32, 1, 2)


def test_killed_and_continued_it_has_the_same_losses_bit_for_bit(whole, killed, tmp_path):
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)
    assert read_metrics(tmp_path)[-1]["step"] == 4  # the fifth was not written any more
    assert "continues after step 4" in _run(tmp_path)
    np.testing.assert_array_equal(_losses(tmp_path), _losses(whole))


def test_a_damaged_newest_checkpoint_is_passed_over_and_eight_devices_go_on(
    whole, killed, tmp_path
):
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)
    newest = tmp_path / "checkpoints" / "4"
    files = [path for path in newest.rglob("*") if path.is_file()]
    for path in files:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    errors = _run(tmp_path, devices=8)
    assert "checkpoint 4" in errors
    assert "skipped" in errors
    assert "continues after step 2" in errors
    np.testing.assert_allclose(_losses(tmp_path), _losses(whole), atol=1e-5)


def test_two_hosts_have_the_same_losses(whole, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    hosts = [_start(tmp_path, hosts=(port, process, 2)) for process in range(2)]
    for process in hosts:
        _, errors = process.communicate(timeout=900)
        assert process.returncode == 0, errors[-3000:]
    np.testing.assert_allclose(_losses(tmp_path), _losses(whole), atol=1e-5)


def test_the_pool_is_determined_by_its_state():
    pool, seen = Pool(4, 2, 5, seed=0), set()
    for _ in range(10):
        pool.advance()
    twin = Pool(4, 2, 5, seed=0)
    twin.restore(json.loads(json.dumps({k: v.tolist() for k, v in pool.state().items()})))
    for _ in range(30):
        assert pool.advance() == twin.advance()
        assert np.array_equal(pool.scene, twin.scene)
        seen.update(pool.scene.tolist())
    assert set(range(max(pool.scene) - 30, pool.entered)) <= seen  # each enters, in order
    lives = [pool.life(number) for number in range(200)]
    assert set(lives) == {2, 3, 4, 5}


def test_scenes_are_prepared_once_and_errors_arrive_where_they_are_needed():
    loaded = []

    def load(number):
        loaded.append(number)
        if number == 3:
            raise ValueError("scene 3")
        return number

    ahead = Ahead(load, 2)
    ahead.prepare(1)
    assert ahead.get(1) == 1
    ahead.prepare(2)
    assert ahead.get(2) == 2
    with pytest.raises(ValueError, match="scene 3"):
        ahead.get(3)
    ahead.close()
    assert loaded == [1, 2, 3]


def test_tensorboard_is_asked_for_by_name_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(UserError, match="pip install tensorboardX"):
        Journal(tmp_path, 0, 5, tensorboard=True)


def test_tensorboard_gets_every_number(tmp_path, monkeypatch):
    written = {}

    class SummaryWriter:
        def __init__(self, folder):
            assert folder == str(tmp_path / "tensorboard")

        def add_scalar(self, name, value, step):
            written[name, step] = value

        def close(self):
            written["closed", 0] = 1

    monkeypatch.setitem(sys.modules, "tensorboardX", SimpleNamespace(SummaryWriter=SummaryWriter))
    journal = Journal(tmp_path, 0, 5, tensorboard=True)
    journal.write(2, query_loss=-1.5, scenes=3)
    journal.write(4, validation={"right": 40.0, "picture": "a.png"})
    journal.close()
    assert written == {
        ("query_loss", 2): -1.5,
        ("scenes", 2): 3,
        ("validation/right", 4): 40.0,
        ("closed", 0): 1,
    }


def test_a_resumed_journal_forgets_what_came_after_the_checkpoint(tmp_path):
    journal = Journal(tmp_path, 0, 5)
    for step in range(1, 5):
        journal.write(step, query_loss=float(step))
    journal.close()
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 5, "query_lo')  # killed while writing
    again = Journal(tmp_path, 3, 5)
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3]
    assert again.seconds >= read_metrics(tmp_path)[-1]["seconds"]
    again.close()
    assert jax.process_index() == 0
