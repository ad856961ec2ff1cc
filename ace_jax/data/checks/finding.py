"""`Finding`: a fault of a recording, the evidence for it, and how to fix it."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that looks wrong.

    Attributes:
        fault: its name, for tests and scripts: `depth_scale`, `poses_inverted`, ...
        what: the fault in words.
        seen: the evidence, with numbers.
        fix: what to do.
    """

    fault: str
    what: str
    seen: str
    fix: str
