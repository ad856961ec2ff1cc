"""Checkpoints come back bit for bit; damage costs one checkpoint, not the run."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from limits import file_size_limit

from ace_jax.errors import UserError
from ace_jax.training.checkpoints import Checkpoints


def _state(value):
    params = {"a": jnp.full((50, 20), value), "b": {"c": jnp.float32(value)}}
    optimizer = optax.adam(1e-3)
    return {"params": params, "optimizer": optimizer.init(params)}


def _saved(folder, steps=(1, 2, 3)):
    with Checkpoints(folder, "run") as checkpoints:
        for step in steps:
            checkpoints.save(step, _state(float(step) + 0.1))
            checkpoints.wait()
    return folder


def test_newest_state_comes_back(tmp_path):
    with Checkpoints(_saved(tmp_path / "run"), "run") as checkpoints:
        step, state = checkpoints.restore(_state(0.0))
    assert step == 3
    jax.tree.map(np.testing.assert_array_equal, state, _state(3.1))
    assert jax.tree.structure(state) == jax.tree.structure(_state(0.0))


def test_saved_arrays_may_be_donated_at_once(tmp_path):
    add = jax.jit(lambda x: jax.tree.map(lambda a: a + 1, x), donate_argnums=0)
    state = {"a": jnp.zeros((1000, 1000))}
    with Checkpoints(tmp_path, "run") as checkpoints:
        for step in range(3):
            checkpoints.save(step, state)
            state = add(state)
        checkpoints.wait()
        _, restored = checkpoints.restore(state)
    assert (restored["a"] == 2).all()


def test_nothing_there_is_none(tmp_path):
    with Checkpoints(tmp_path / "new", "run") as checkpoints:
        assert checkpoints.restore(_state(0.0)) is None


def _damage(folder, how):
    files = [f for f in (folder / "3").rglob("*") if f.is_file()]
    assert files
    for file in files:
        if how == "truncated" and file.stat().st_size > 1:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        elif how == "emptied":
            file.write_bytes(b"")
        elif how == "deleted" and "default" in file.parts:
            file.unlink()


@pytest.mark.parametrize("how", ["truncated", "emptied", "deleted"])
def test_a_damaged_newest_falls_back_with_a_message(tmp_path, how, caplog):
    _damage(_saved(tmp_path), how)
    with Checkpoints(tmp_path, "run") as checkpoints:
        step, state = checkpoints.restore(_state(0.0))
        assert step == 2
        assert (state["params"]["a"] == jnp.float32(2.1)).all()
        assert "skipped" in caplog.text
        # The run goes on and saves the step anew.
        checkpoints.save(3, _state(9.0))
        checkpoints.wait()
        assert checkpoints.restore(_state(0.0))[0] == 3


def test_an_unfinished_write_is_not_seen(tmp_path):
    _saved(tmp_path, steps=(1,))
    (tmp_path / "2.orbax-checkpoint-tmp-123").mkdir()
    with Checkpoints(tmp_path, "run") as checkpoints:
        assert checkpoints.restore(_state(0.0))[0] == 1


def test_another_configuration_is_told_and_nothing_is_lost(tmp_path):
    _saved(tmp_path, steps=(1,))
    with pytest.raises(UserError, match="another configuration"):
        Checkpoints(tmp_path, "other run")
    with Checkpoints(tmp_path, "run") as checkpoints:
        assert checkpoints.restore(_state(0.0))[0] == 1


def test_unwritable_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write checkpoints"):
        Checkpoints(tmp_path / "file" / "run", "run")


def test_a_full_disk_costs_a_checkpoint_and_a_warning_not_the_run(tmp_path, caplog, capfd):
    """No room: bytes beyond a limit are refused, as by a full disk."""
    large = {"a": jnp.asarray(np.random.default_rng(0).normal(size=(300, 100)))}
    with Checkpoints(tmp_path, "run") as checkpoints:
        checkpoints.save(1, large)
        checkpoints.wait()
        with file_size_limit(20_000):
            checkpoints.save(2, large)
            checkpoints.wait()
        told = [r for r in caplog.records if r.levelname in ("WARNING", "ERROR")]
        assert len(told) == 1
        assert "goes on without it" in told[0].getMessage()
        assert "Traceback" not in capfd.readouterr().err
        assert checkpoints.newest == 1
        assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "identity"]
        checkpoints.save(3, large)  # room again
        checkpoints.wait()
        assert checkpoints.restore(large)[0] == 3
