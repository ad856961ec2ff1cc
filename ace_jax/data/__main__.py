"""Recordings: list, describe, check, convert, download.

  python -m ace_jax.data list
  python -m ace_jax.data info SEQ
  python -m ace_jax.data check SEQ [--picture FILE]
  python -m ace_jax.data convert SEQ --to replica|tum|7scenes|ace|colmap|nerfstudio|mcap|folder \\
      --out FOLDER
  python -m ace_jax.data download NAME

SEQ is a recording's path (it is recognised by what it holds), or its name, such as
7scenes/redkitchen/seq-01; `list` shows all forms, and what can be downloaded.

Examples:
  python -m ace_jax.data check my_recording
  python -m ace_jax.data convert tum/freiburg1_rpy --data_root ~/data --to colmap --out /tmp/rpy
  python -m ace_jax.data convert kitchen --poses runs/slam/kitchen/trajectory.tum \\
      --stride 10 --to nerfstudio --out kitchen_splats
  python -m ace_jax.data convert tum/freiburg1_rpy --data_root ~/data --to mcap --out rpy_bag

`check` finds out why a recording does not work; its exit code is 1 if it found a fault.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from ace_jax import errors

_DATA_ROOT = flags.DEFINE_string("data_root", "data", "folder that holds 7scenes/, tum/, ...")
_POSES = flags.DEFINE_string("poses", None, "pose file that replaces the recording's own poses")
_INTRINSICS = flags.DEFINE_string(
    "intrinsics", None, "of a folder of images that has none: fx,fy,cx,cy in pixels, or a file"
)
_START = flags.DEFINE_integer("start", 0, "first frame", lower_bound=0)
_STRIDE = flags.DEFINE_integer("stride", 1, "take every n-th frame", lower_bound=1)
_MAX_FRAMES = flags.DEFINE_integer("max_frames", None, "at most so many frames", lower_bound=1)
_TO = flags.DEFINE_string("to", None, "convert: layout to write")
_OUT = flags.DEFINE_string("out", None, "convert: new folder to write to")
_PICTURE = flags.DEFINE_string(
    "picture", None, "check: diagnostic picture to write (default: runs/check/SEQ.png)"
)
_VERBS = ("list", "info", "check", "convert", "download")
_NEEDS_NAME = _VERBS[1:]


def main(argv: Sequence[str]) -> int | None:
    """Runs one verb."""
    verb, *names = argv[1:]
    if verb not in _VERBS:
        raise errors.UserError(f"no verb {verb!r}: there are {', '.join(_VERBS)}")
    if bool(names) != (verb in _NEEDS_NAME):
        raise errors.UserError(f"{verb} takes {'a' if verb in _NEEDS_NAME else 'no'} name")
    if verb == "list":
        from ace_jax.data.verbs.listing import listing

        print(listing(Path(_DATA_ROOT.value)))
        return None
    if verb == "download":
        from ace_jax.data.verbs.download import download

        print(download(names[0], Path(_DATA_ROOT.value)))
        return None
    return _on_recording(verb, names[0])


def _on_recording(verb: str, name: str) -> int | None:
    from ace_jax.data.intrinsics import parse_intrinsics
    from ace_jax.data.registry import open_sequence, short_name

    source = open_sequence(
        name,
        _DATA_ROOT.value,
        start=_START.value,
        stride=_STRIDE.value,
        max_frames=_MAX_FRAMES.value,
        poses=_POSES.value,
        intrinsics=None if _INTRINSICS.value is None else parse_intrinsics(_INTRINSICS.value),
    )
    if verb == "info":
        from ace_jax.data.verbs.info import info

        print(info(source))
    elif verb == "convert":
        from ace_jax.data.verbs.convert import convert

        print(convert(source, _TO.value, _OUT.value))
    else:
        from ace_jax.data.verbs.check import check, save_picture

        report = check(source)
        print(report.text())
        picture = Path(_PICTURE.value or f"runs/check/{short_name(name).replace('/', '_')}.png")
        save_picture(picture, report)
        print(f"picture: {picture}")
        return 1 if report.findings else None
    return None


if __name__ == "__main__":
    errors.run(main, positional=("VERB",), optional=("SEQ",))
