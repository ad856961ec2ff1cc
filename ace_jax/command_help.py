"""The text of `--help`: a command's docstring, and its flags by subject."""

import re
import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags

Groups = Mapping[str, Sequence[str]]

_INDENT = 26  # columns before a flag's text
_REST = "Further flags"


def help_text(
    summary: str,
    module: str,
    groups: Groups | None = None,
    config: Callable[[], Any] | None = None,
) -> str:
    """What `--help` prints.

    Args:
        summary: the command's docstring.
        module: its main module, as absl knows it, whose flags are shown.
        groups: names of flags by title; the others follow in the order of their definition.
        config: makes the ConfigDict whose fields `--config.FIELD=VALUE` sets; None without.
    """
    width = min(shutil.get_terminal_size((100, 24)).columns, 100)
    known = {flag.name: flag for flag in flags.FLAGS.get_key_flags_for_module(module)}
    parts = [summary.strip()]
    named = [name for names in (groups or {}).values() for name in names]
    rest = [name for name in known if name not in named]
    sections = dict(groups or {}) | ({_REST if groups else "Flags": rest} if rest else {})
    for title, names in sections.items():
        parts.append("\n".join([f"{title}:", *(_entry(known[name], width) for name in names)]))
    if config is not None:
        fields = [f"  --config.{name}={value}" for name, value in _fields(config())]
        parts.append(
            "\n".join(
                [
                    "Fields of --config, with values that a preset may change:",
                    *fields,
                ]
            )
        )
    last = (
        "--flag VALUE and --flag=VALUE are the same. --version tells the version, --helpfull the "
        "libraries' flags."
    )
    parts.append(textwrap.fill(last, width))
    return "\n\n".join(parts) + "\n"


def _entry(flag: flags.Flag, width: int) -> str:
    head = f"  --[no]{flag.name}" if flag.boolean else f"  --{flag.name} {_value(flag)}"
    text = " ".join((flag.help or "").split())
    text = re.sub(r"^<[^>]*>: ", "", text)  # absl repeats the choices there
    text = text.removesuffix("; repeat this option to specify a list of values")  # absl, again
    default = _default(flag)
    if default and "(default:" not in text:
        text = f"{text} (default: {default})"
    pad = " " * _INDENT
    lines = textwrap.wrap(text, max(width - _INDENT, 30)) or [""]
    if len(head) + 2 > _INDENT:
        return "\n".join([head, *(pad + line for line in lines)])
    return "\n".join([head.ljust(_INDENT) + lines[0], *(pad + line for line in lines[1:])])


def _value(flag: flags.Flag) -> str:
    choices = getattr(flag.parser, "enum_values", None)
    if choices:
        return "|".join(choices)
    kind = flag.flag_type()
    return {"int": "N", "float": "X"}.get(kind, flag.name.upper())


def _default(flag: flags.Flag) -> str:
    """The default as it would be typed; "" where there is none to tell."""
    if flag.boolean:
        return "yes" if flag.default else ""
    if flag.default is None or flag.default == [] or flag.default == "":
        return ""
    if isinstance(flag.default, list):
        return ",".join(map(str, flag.default))
    return f"{flag.default:g}" if isinstance(flag.default, float) else str(flag.default)


def _fields(config: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Names and values of all fields, those of inner configurations with dots."""
    found = []
    for name in config:
        value = config[name]
        if hasattr(value, "to_dict") and len(value):
            found += _fields(value, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", str(getattr(value, "to_dict", lambda v=value: v)())))
    return found
