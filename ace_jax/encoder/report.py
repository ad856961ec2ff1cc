"""The report of an encoder's training."""

from pathlib import Path
from typing import Any

import ml_collections
import numpy as np
from matplotlib.figure import Figure

from ace_jax.encoder.validation import CONDITIONS, Matches, Validator
from ace_jax.evaluation import page
from ace_jax.evaluation.charts import GREEN, RED, Curves, curves_figure
from ace_jax.evaluation.page import Section, drawing
from ace_jax.models.patch_descriptor import PatchDescriptor, multiply_adds
from ace_jax.pretrain.journal import read_metrics

Figures = dict[str, dict[str, float]]


def lines(figures: Figures, control: Figures) -> list[str]:
    """A line for each condition: right matches and their share, beside RootSIFT's."""
    return [f"  {name:<12}{_cell(figures[name])}, RootSIFT {_cell(control[name])}"
            for name in CONDITIONS]  # fmt: skip


def _cell(of: dict[str, float]) -> str:
    return f"{of['right']:.0f} right matches ({of['share']:.0f} %)"


def write_report(
    path: Path,
    folder: Path,
    config: ml_collections.ConfigDict,
    module: PatchDescriptor,
    validator: Validator,
    network: Any,
    figures: Figures,
    control: Figures,
) -> None:
    """Writes the report.

    Args:
        path: the HTML file.
        folder: of the run, with its `metrics.jsonl`.
        config: of the run.
        module: the network.
        validator: the pairs that it was asked about.
        network: the parameters that were best.
        figures: of these.
        control: of RootSIFT at the same keypoints.
    """
    metrics = read_metrics(folder)
    logged = [line for line in metrics if "info_nce" in line]
    checked = [line for line in metrics if "validation" in line]
    curves = []
    if len(logged) > 1:
        panels = [
            Curves({"InfoNCE": [line["info_nce"] for line in logged],
                    "HardNet": [line["hard"] for line in logged]}),
            Curves({"nearest is right": [line["nearest"] for line in logged]}),
        ]  # fmt: skip
        curves.append(drawing(curves_figure([line["step"] for line in logged], panels), "losses"))
    if len(checked) > 1:
        panels = [
            Curves(
                {
                    name: [line["validation"][name]["right"] for line in checked],
                    "RootSIFT": [control[name]["right"]] * len(checked),
                }
            )
            for name in CONDITIONS
        ]
        steps = [line["step"] for line in checked]
        half = (len(panels) + 1) // 2
        curves += [drawing(curves_figure(steps, some), "validation")
                   for some in (panels[:half], panels[half:])]  # fmt: skip
    rows = [(name, f"{_cell(figures[name])}; RootSIFT {_cell(control[name])}")
            for name in CONDITIONS]  # fmt: skip
    rows.append(("million multiply-adds a keypoint", f"{multiply_adds(module) / 1e6:.3f}"))
    shown: dict[str, str] = {}
    for asked in validator.asked:
        if asked.condition not in shown:
            found = validator.answer(network, asked)
            picture = _matches(asked.pair.first, asked.pair.second, found, asked.control)
            shown[asked.condition] = drawing(picture, asked.condition)
    sections = [
        Section(
            "Images not trained on",
            [page.table(rows)],
            "Right mutual matches of a pair, and their share of all, beside RootSIFT at the same "
            "keypoints.",
        ),
        Section("Curves", curves),
        Section(
            "Matches",
            list(shown.values()),
            "Ours at the left, RootSIFT at the right; wrong ones in red.",
        ),
    ]
    page.write_report(path, "Encoder pre-training", [], config.to_dict(), sections)


def _matches(first: np.ndarray, second: np.ndarray, ours: Matches, control: Matches) -> Figure:
    """A pair of images side by side with lines between the matches, twice."""
    figure = Figure(figsize=(12, 2.4), layout="constrained")
    width = first.shape[1]
    both = np.concatenate([first, second], axis=1)
    titles = "ours", "RootSIFT"
    for axis, found, title in zip(figure.subplots(1, 2), (ours, control), titles, strict=True):
        axis.imshow(both)
        some = slice(None, None, max(len(found.one) // 60, 1))
        for one, two, good in zip(found.one[some], found.two[some], found.good[some], strict=True):
            colour = GREEN if good else RED
            axis.plot([one[0], two[0] + width], [one[1], two[1]], color=colour, linewidth=0.5)
        axis.set_title(f"{title}: {found.right} of {found.count} right", fontsize=8)
        axis.set(xticks=[], yticks=[])
    return figure
