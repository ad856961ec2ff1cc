"""Live view of a running job in a Rerun window or recording."""

import importlib.util

from ace_jax.errors import UserError

WINDOW = "window"  # the value of `--rerun` that asks for a window instead of a file


def require_rerun(target: str | None) -> None:
    """Finds out, before anything is read or rendered, whether there can be a live view.

    Args:
        target: value of the flag `--rerun`.

    Raises:
        UserError: the flag asks for one, and Rerun is not installed.
    """
    if target is not None and importlib.util.find_spec("rerun") is None:
        raise UserError(
            "--rerun needs the extra `viewer`: pip install rerun-sdk, or leave --rerun away"
        )
