"""The viewer: opens a recording of the live view, made with --rerun FILE.rrd.

  python -m ace_jax.viewer FILE.rrd [--web]

Examples:
  python -m ace_jax.slam --rerun room.rrd
  python -m ace_jax.viewer room.rrd
  python -m ace_jax.viewer room.rrd --web
"""

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from ace_jax import errors

_WEB = flags.DEFINE_bool("web", False, "open in the browser, for a machine without a display")


def main(argv: Sequence[str]) -> int:
    """Starts Rerun's viewer on the file."""
    path = Path(argv[1])
    if not path.is_file():
        raise errors.UserError(f"there is no recording {path}; make one with slam --rerun {path}")
    if importlib.util.find_spec("rerun") is None:
        raise errors.UserError("the viewer needs the extra `viewer`: pip install rerun-sdk")
    command = [sys.executable, "-m", "rerun", str(path)]
    return subprocess.call([*command, "--web-viewer"] if _WEB.value else command)


if __name__ == "__main__":
    errors.run(main, positional=("FILE.rrd",))
