"""Where the repository is."""

from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
GOLDEN = REPO / "tests" / "golden"  # oracle values, see its README
