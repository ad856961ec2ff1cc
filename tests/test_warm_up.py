"""`ace-jax warm-up`: what it compiles, says and refuses; nothing is compiled here."""

import numpy as np
import pytest
from absl import flags

from ace_jax.errors import UserError
from ace_jax.warm_up import jobs

NAMES = ("size", "jobs", "map", "features", "weights_dir")
# Another command that tests have imported may define a flag of the same name.
for name in NAMES:
    if name in flags.FLAGS:
        delattr(flags.FLAGS, name)

from ace_jax.warm_up import __main__ as warm_up  # noqa: E402


def run(*arguments: str) -> None:
    for name in NAMES:
        flags.FLAGS[name].unparse()
    # Of export, which other tests import, --out is required.
    flags.FLAGS(["warm-up", "--out=unused", *arguments], known_only=True)
    warm_up.main(["warm-up"])


@pytest.fixture(autouse=True)
def done(monkeypatch, tmp_path) -> list[tuple]:
    """What was asked for, instead of compiling it."""
    asked: list[tuple] = []
    (tmp_path / "program").write_bytes(bytes(3_000_000))
    monkeypatch.setattr(jobs, "folder", lambda: tmp_path)
    for name in ("slam", "mapping", "relocalize"):
        monkeypatch.setattr(
            jobs, name, lambda *given, name=name: asked.append((name, *given)) or f"{name} done"
        )
    return asked


def test_every_size_and_map_has_its_turn(done, capsys, tmp_path):
    run("--size", "640x480,320x240", "--map", "room.safetensors", "--jobs", "slam,relocalize")
    assert [(name, size) for name, size, *_ in done] == [
        ("slam", (640, 480)),
        ("relocalize", (640, 480)),
        ("slam", (320, 240)),
        ("relocalize", (320, 240)),
    ]
    assert capsys.readouterr().out.splitlines()[-1] == f"kept in {tmp_path}: 3 MB"


def test_without_flags_slam_and_mapping(done):
    run()
    assert [(name, size) for name, size, *_ in done] == [
        ("slam", (640, 480)),
        ("mapping", (640, 480)),
    ]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--size", "large"), "--size 'large' is no WIDTHxHEIGHT, such as 640x480"),
        (("--jobs", "slam,cook"), "no job 'cook'; there are slam, mapping, relocalize"),
        (("--jobs", "relocalize"), "relocalize needs --map: programs have its number of landmarks"),
    ],
)
def test_mistakes_are_one_line(arguments, line, done):
    with pytest.raises(UserError) as refused:
        run(*arguments)
    assert str(refused.value) == line
    assert done == []


def test_no_place_for_programs_is_told(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("ACE_JAX_PROGRAMS", "0")
    with pytest.raises(UserError, match="compiled programs are not kept"):
        jobs.folder()


def test_the_pictures_show_one_wall_moved():
    left, right = jobs._picture((160, 120), 0), jobs._picture((160, 120), 12)
    assert left.shape == (120, 160, 3)
    assert left.dtype == np.uint8
    np.testing.assert_array_equal(left[:, 12:], right[:, :-12])
    assert left.std() > 20  # features are found
