"""`check SEQ`: finds faults of a recording and says how to fix them."""

import dataclasses
from pathlib import Path

import numpy as np

from ace_jax.data.checks import motion, registration, structure
from ace_jax.data.checks.finding import Finding
from ace_jax.data.frame import BadFrame, Frame, FrameSource
from ace_jax.data.prefetch import Prefetcher
from ace_jax.data.subset import SubsetSource
from ace_jax.data.verbs.info import facts
from ace_jax.errors import UserError
from ace_jax.files import replacing

ANCHORS = 10  # places in the recording where frames are compared with later ones
EDGE_FRAMES = 48  # frames whose depth edges are compared with image edges


@dataclasses.dataclass(frozen=True)
class Report:
    """What was seen, and what is wrong with it.

    Attributes:
        facts: name and value of what the recording is, in words.
        findings: faults, the likeliest cause first.
        frames: those that were looked at, by number.
        poses: (N, 4, 4) as the source gives them, or None.
        matches: points matched between frames; None without poses, or if nothing matched.
        verdict: of the matches between frames; None without poses, or if nothing matched.
    """

    facts: dict[str, str]
    findings: list[Finding]
    frames: dict[int, Frame]
    poses: np.ndarray | None
    matches: motion.Matches | None
    verdict: motion.Verdict | None

    def text(self) -> str:
        """The report for people."""
        width = max(map(len, self.facts))
        lines = [f"{name:<{width}}  {value}" for name, value in self.facts.items()]
        for number, finding in enumerate(self.findings, 1):
            lines += [
                "",
                f"{number}. {finding.what}  [{finding.fault}]",
                f"   seen: {finding.seen}",
                f"   fix:  {finding.fix}",
            ]
        count = len(self.findings)
        summary = "no faults found" if not count else f"{count} fault{'s' * (count > 1)} found"
        return "\n".join([*lines, "", summary])


def check(source: FrameSource, *, anchors: int = ANCHORS, edge_frames: int = EDGE_FRAMES) -> Report:
    """Looks at a recording: all headers and poses, and about 90 frames spread over it.

    Args:
        source: the recording.
        anchors: places where frames are compared with later ones; four pairs each.
        edge_frames: frames whose depth edges are compared with image edges.

    Raises:
        UserError: none of the frames looked at can be read, and no finding says why.
    """
    findings = [*structure.times(source), *structure.poses(source), *structure.sizes(source)]
    pairs = motion.pairs_of(len(source), anchors)
    numbers = {i for pair in pairs for i in pair}
    spread = np.unique(np.linspace(0, len(source) - 1, edge_frames).astype(int)).tolist()
    numbers |= set(spread)
    frames, problem = _read(source, sorted(numbers))
    if not frames and not findings:
        raise UserError(f"{source.name}: none of its frames can be read: {problem}")
    shown = list(frames.values())
    findings += structure.intrinsics(source)
    findings += structure.depth_range(shown)
    findings += registration.judge(registration.align([frames[i] for i in spread if i in frames]))
    poses, verdict = source.poses(), None
    matches = None if poses is None else motion.match(frames, pairs)
    if matches is not None and poses is not None:
        verdict = motion.weigh(matches, poses)
        if not _explained(findings):
            findings += motion.judge(verdict, matches.camera)
    described = facts(source) | _seen(shown, verdict)
    return Report(described, findings, frames, poses, matches, verdict)


# What already says why points do not land where they should.
_CAUSES = {"unregistered_depth", "depth_unit", "intrinsics_size", "swapped_centre"}


def _explained(findings: list[Finding]) -> bool:
    return any(finding.fault in _CAUSES for finding in findings)


def _read(source: FrameSource, numbers: list[int]) -> tuple[dict[int, Frame], str]:
    frames, problem = {}, ""
    with Prefetcher(SubsetSource(source, indices=numbers)) as results:
        for number, result in zip(numbers, results, strict=True):
            if isinstance(result, BadFrame):
                problem = problem or str(result)
            else:
                frames[number] = dataclasses.replace(result, index=number)
    return frames, problem


def _seen(frames: list[Frame], verdict: motion.Verdict | None) -> dict[str, str]:
    described = {}
    depths = [frame.depth for frame in frames if frame.depth is not None]
    if depths:
        known = np.concatenate([d[d > 0].ravel()[::37] for d in depths])
        share = np.mean([np.mean(d > 0) for d in depths])
        low, high = np.percentile(known, [2, 98]) if len(known) else (0.0, 0.0)
        described["depth"] = f"{low:.3g} to {high:.3g} m, known for {100 * share:.0f} % of pixels"
    if verdict is not None and np.isfinite(verdict.error):
        described["agreement"] = (
            f"{verdict.error:.1f} px between matched points and where poses"
            f"{' and depth' if depths else ''} put them ({verdict.pairs} pairs of frames)"
        )
    return described


def save_picture(path: str | Path, report: Report) -> None:
    """Draws what was looked at; see `checks.picture`.

    Raises:
        UserError: the place cannot be written.
    """
    from ace_jax.data.checks.picture import figure  # Matplotlib takes its time

    try:
        with replacing(path) as temporary:
            figure(report.frames, report.poses, report.matches, report.text()).savefig(temporary)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
