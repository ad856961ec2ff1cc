"""Published weights: list, inspect, convert, verify, download.

  python -m ace_jax.weights list
  python -m ace_jax.weights info FILE
  python -m ace_jax.weights convert FILE --out FILE.safetensors
  python -m ace_jax.weights verify FILE
  python -m ace_jax.weights download NAME

FILE is a PyTorch, safetensors or ONNX file, or the folder of a Hugging Face model. Nothing in a
file is ever executed. What a command needs is fetched when it is first needed, unless
ACE_JAX_OFFLINE=1 or --weights_dir says no.

Examples:
  python -m ace_jax.weights list
  python -m ace_jax.weights convert ace_encoder_pretrained.pt --out ace.safetensors
  python -m ace_jax.weights download xfeat
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ace_jax.errors import EXIT_INTERRUPTED, UserError, report, stop_printing
from ace_jax.weights import catalogue, checkpoint, store
from ace_jax.weights.download import download


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        raise UserError(f"{message}; see python -m ace_jax.weights --help")


def _list(arguments: argparse.Namespace) -> None:
    folder = store.weights_folder(arguments.weights_dir)
    print(f"weights folder: {folder}")
    for entry in catalogue.ENTRIES.values():
        found = store.present(entry.files, folder) if folder.is_dir() else None
        here = found.name if found else "-"
        print(f"{entry.name:20} {entry.what}, {entry.size_text}")
        print(f"{'':20} {entry.licence}\n{'':20} here: {here}")


def _info(arguments: argparse.Namespace) -> None:
    loaded = checkpoint.load(arguments.file)
    described = checkpoint.describe(loaded)
    numbers = sum(tensor.size for tensor in loaded.state.values())
    kinds = sorted({str(tensor.dtype) for tensor in loaded.state.values()})
    print(f"model         {checkpoint.FAMILIES[loaded.family].title}")
    print(f"tensors       {len(loaded.state)}, {numbers / 1e6:.2f} M numbers, {', '.join(kinds)}")
    print(f"config        {json.dumps(loaded.config)}")
    for key in ("name", "source", "source_sha256", "checksum", "licence"):
        if key in described:  # what we trained has no source of another format
            print(f"{key:13} {described[key]}")


def _convert(arguments: argparse.Namespace) -> None:
    out = Path(arguments.out)
    if out.suffix != ".safetensors":
        raise UserError(f"--out must end in .safetensors, not {out.name!r}")
    metadata = checkpoint.save(checkpoint.load(arguments.file), out)
    print(f"{out}: {checkpoint.FAMILIES[metadata['family']].title}, {metadata['licence']}")


def _verify(arguments: argparse.Namespace) -> None:
    print(checkpoint.verify(arguments.file))


def _download(arguments: argparse.Namespace) -> None:
    entry = catalogue.entry(arguments.name)
    path = download(entry, store.weights_folder(arguments.weights_dir))
    print(f"{path}\n{checkpoint.verify(path)}")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m ace_jax.weights",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: object, what: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=what, description=what)
        sub.set_defaults(run=run)
        return sub

    for name, run, what in (
        ("list", _list, "published weights, their licences, and what is here"),
        ("download", _download, "fetch published weights into the weights folder"),
    ):
        sub = command(name, run, what)
        sub.add_argument("--weights_dir", help=f"default: ${store.ENVIRONMENT_VARIABLE} or cache")
        if name == "download":
            sub.add_argument("name")
    for name, run, what in (
        ("info", _info, "describe a weights file"),
        ("convert", _convert, "convert to safetensors, with source and licence in the metadata"),
        ("verify", _verify, "check that a file is intact and fits its model"),
    ):
        sub = command(name, run, what)
        sub.add_argument("file")
        if name == "convert":
            sub.add_argument("--out", required=True)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    try:
        arguments = _parser().parse_args(argv)
        arguments.run(arguments)
    except UserError as error:
        return report(error)
    except BrokenPipeError:
        stop_printing()
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
