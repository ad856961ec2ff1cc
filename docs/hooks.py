"""What the site's build does to the pages.

Tables are written once, by the scripts under benchmarks/, into the page of their subject. A line
`<!-- table of: slam.md accuracy -->` elsewhere shows the same table. Links to files of the
repository outside docs/ become plain names: the site does not have these files.
"""

import re
from pathlib import Path

_DOCS = Path(__file__).parent
_SHOWN = re.compile(r"<!-- table of: (\S+) (\S+) -->")
_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./(?!\w+\.md)([^)]+)\)")


def on_page_markdown(markdown: str, page, **_) -> str:
    """Fills in tables and takes out links that lead nowhere."""
    markdown = _SHOWN.sub(lambda match: table(match[1], match[2]), markdown)
    if "/" not in page.file.src_uri:
        markdown = _OUTSIDE.sub(r"\1", markdown)
    return markdown


def table(page: str, name: str) -> str:
    """The content of the block `<!-- table: NAME -->` of another page.

    Raises:
        ValueError: there is no such block.
    """
    text = (_DOCS / page).read_text(encoding="utf-8")
    found = re.search(rf"<!-- table: {name} -->\n(.*?)<!-- end table -->", text, re.DOTALL)
    if found is None:
        raise ValueError(f"docs/{page} has no table {name!r}")
    return found[1].strip()
