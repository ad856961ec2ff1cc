"""Draws docs/images/architecture.svg: the data flow, and the packages that each step is in.

python benchmarks/architecture_figure.py
"""

from pathlib import Path

_OUT = Path(__file__).resolve().parent.parent / "docs/images/architecture.svg"
_WIDTH, _BOX, _STEP = 1000, (150, 62), 208
_FLOW = (  # the type, what makes it, the package
    ("Frame", "image, depth, camera", "data, synthetic"),
    ("Features", "pixels, descriptors", "features"),
    ("SceneCoordinates", "3D points, deviation", "models, localization"),
    ("PoseResult", "pose, inliers, success", "geometry"),
    ("trajectory, metrics", "report, files", "evaluation"),
)
_COMMANDS = (
    ("slam", "builds the map while it tracks"),
    ("mapping", "posed images to a map"),
    ("relocalize", "a map and images to poses"),
    ("pretrain", "many scenes to a transformer"),
    ("export", "a map to a program"),
)
_STYLE = "font-family='sans-serif' text-anchor='middle'"


def _box(x: float, y: float, lines: tuple[str, ...], fill: str) -> str:
    width, height = _BOX
    texts = "".join(
        f"<text x='{x + width / 2}' y='{y + 22 + 16 * i}' font-size='{14 if i == 0 else 11}' "
        f"font-weight='{'bold' if i == 0 else 'normal'}' {_STYLE}>{line}</text>"
        for i, line in enumerate(lines)
    )
    return (
        f"<rect x='{x}' y='{y}' width='{width}' height='{height}' rx='6' fill='{fill}' "
        f"stroke='#445'/>{texts}"
    )


def _arrow(x: float, y: float, to_x: float, to_y: float) -> str:
    return (
        f"<line x1='{x}' y1='{y}' x2='{to_x}' y2='{to_y}' stroke='#445' stroke-width='1.5' "
        "marker-end='url(#end)'/>"
    )


def draw() -> str:
    """The figure as SVG."""
    width, height = _BOX
    parts = []
    for i, step in enumerate(_FLOW):
        x = 9 + i * _STEP
        parts.append(_box(x, 20, step, "#dfe9f5"))
        if i:
            parts.append(_arrow(x - _STEP + width, 20 + height / 2, x - 3, 20 + height / 2))
    middle = 9 + 2 * _STEP
    parts.append(_box(middle, 130, ("SceneMap", "landmarks or a head", "localization"), "#f5ecd9"))
    parts.append(_arrow(middle + width / 2, 130, middle + width / 2, 20 + height + 3))
    for i, command in enumerate(_COMMANDS):
        x = 9 + i * _STEP
        parts.append(_box(x, 240, command, "#e4f1e1"))
        if i != 3:  # pre-training reads scenes, and gives a transformer that maps share
            ends = (x + width / 2, 240, middle + width / 2, 130 + height + 3)
            parts.append(_arrow(*(ends if i < 2 else (*ends[2:], x + width / 2, 237))))
    parts.append(_arrow(9 + 3 * _STEP, 240 + height / 2, 9 + 2 * _STEP + width + 3, 130 + height))
    body = "\n".join(parts)
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} 320' width='{_WIDTH}'>"
        "<defs><marker id='end' markerWidth='8' markerHeight='8' refX='6' refY='3' orient='auto'>"
        f"<path d='M0,0 L6,3 L0,6 z' fill='#445'/></marker></defs>"
        f"<rect width='{_WIDTH}' height='320' fill='white'/>\n{body}\n</svg>\n"
    )


if __name__ == "__main__":
    _OUT.write_text(draw(), encoding="utf-8")
