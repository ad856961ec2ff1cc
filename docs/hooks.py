"""What the site's build does to the pages.

Tables are written once, by the scripts under benchmarks/, into the page of their subject. A line
`<!-- table of: slam-figures.md accuracy -->` elsewhere shows the same table. The footer tells the
version. The repository's address is read from `[project.urls]` of pyproject.toml, entry
`Repository`: with it the site links to the repository, and links to its files outside docs/ lead
there; without it they become plain names, as the site does not have these files.
"""

import re
import tomllib
from pathlib import Path

_DOCS = Path(__file__).parent
_SHOWN = re.compile(r"<!-- table of: (\S+) (\S+) -->")
_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./([^)]+)\)")


def on_config(config, **_):
    """Sets the version, and the repository's address if it has one."""
    text = (_DOCS.parent / "ace_jax" / "__init__.py").read_text(encoding="utf-8")
    version = re.search(r'^__version__ = "(.*)"$', text, re.MULTILINE)[1]
    config.copyright = f"ace_jax {version}, Apache-2.0"
    config.repo_url = address() or None
    return config


def address() -> str:
    """Where the repository is; "" as long as it has no public address."""
    project = tomllib.loads((_DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))
    return project["project"]["urls"].get("Repository", "").rstrip("/")


def on_page_markdown(markdown: str, page, **_) -> str:
    """Fills in tables; links to files outside docs/ lead to the repository, or nowhere."""
    markdown = _SHOWN.sub(lambda match: table(match[1], match[2]), markdown)
    if "/" not in page.file.src_uri:
        there = rf"[\1]({address()}/blob/main/\2)" if address() else r"\1"
        markdown = _OUTSIDE.sub(there, markdown)
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
