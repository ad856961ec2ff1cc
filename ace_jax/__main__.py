"""The command `ace-jax`: lists the package's commands and starts one of them.

A command is a subpackage with a `__main__.py`, whose docstring begins with its summary.
`ace-jax NAME ...` and `python -m ace_jax.NAME ...` are the same.
"""

import ast
import difflib
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from ace_jax import __version__
from ace_jax.errors import report, stop_printing

_PACKAGE = Path(__file__).resolve().parent
# The order in which a newcomer needs them; commands not named here follow.
_ORDER = (
    *("slam", "mapping", "relocalize", "pretrain", "encoder", "export", "data", "weights"),
    *("evaluation", "viewer", "warm-up"),
)
# For bash, and for zsh through its emulation. A command's flags are asked for once a shell.
_COMPLETION = r"""[ -z "$ZSH_VERSION" ] || { autoload -U +X bashcompinit && bashcompinit; }
_ace_jax() {
  local current=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]} known
  if [ "$COMP_CWORD" = 1 ]; then
    COMPREPLY=($(compgen -W "COMMANDS" -- "$current"))
  elif [[ $current == -* ]]; then
    known="_ace_jax_flags_$command"
    eval "[ -n \"\$$known\" ]" || eval "$known=\$(ace-jax $command --help 2>/dev/null |
      sed -n 's/^  --\(\[no\]\)\{0,1\}\([a-z_]*\).*/--\2/p')"
    COMPREPLY=($(compgen -W "$(eval echo "\$$known")" -- "$current"))
  else
    COMPREPLY=($(compgen -f -- "$current"))
  fi
}
complete -o filenames -F _ace_jax ace-jax
"""


def commands() -> dict[str, str]:
    """Names and one-line summaries of the commands that this installation has."""
    found = {
        file.parent.name.replace("_", "-"): _summary(file)
        for file in sorted(_PACKAGE.glob("*/__main__.py"))
        if (file.parent / "__init__.py").is_file()
    }
    first = [name for name in _ORDER if name in found]
    return {name: found[name] for name in [*first, *(n for n in found if n not in _ORDER)]}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `ace-jax ARGUMENTS`; returns the exit code unless the command exits by itself."""
    try:
        code = _run(argv)
        sys.stdout.flush()
    except BrokenPipeError:
        stop_printing()
        return 0
    return code


def _run(argv: Sequence[str] | None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    available = commands()
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview(available))
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"ace_jax {__version__}")
        return 0
    if arguments == ["completion"]:
        print(_COMPLETION.replace("COMMANDS", " ".join(available)), end="")
        return 0
    name = arguments[0]
    if name not in available:
        close = difflib.get_close_matches(name, available, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(available)}"
        return report(f"no command {name!r}; {hint}")
    sys.argv = [f"ace-jax {name}", *arguments[1:]]
    # As `python -m` does it: absl finds help text and flags in the module that is `__main__`.
    runpy.run_module(f"ace_jax.{name.replace('-', '_')}", run_name="__main__", alter_sys=True)
    return 0


def _overview(available: dict[str, str]) -> str:
    width = max(map(len, available), default=0) + 2
    return "\n".join(
        [
            f"ace_jax {__version__}: SLAM, mapping and relocalization by scene coordinates",
            "",
            "  ace-jax COMMAND [flags]        or        python -m ace_jax.COMMAND [flags]",
            "",
            *(f"  {name:<{width}}{summary}" for name, summary in available.items()),
            "",
            "ace-jax COMMAND --help tells more. To begin: ace-jax slam",
            'Completion by the Tab key, in bash and zsh: eval "$(ace-jax completion)"',
        ]
    )


def _summary(file: Path) -> str:
    """First line of a module's docstring; read, not imported, so that the list comes at once."""
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    return docstring.splitlines()[0] if docstring else ""


if __name__ == "__main__":
    sys.exit(main())
