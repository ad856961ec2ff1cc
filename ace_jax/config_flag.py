"""`--config NAME`: preset names where the flag of ml_collections takes files only."""

from collections.abc import Callable, Sequence

_given: dict[str, str] = {}  # by the argument that took its place


def is_given(argv: Sequence[str]) -> bool:
    """Whether command-line arguments have a --config."""
    return any(argument == "--config" or argument.startswith("--config=") for argument in argv)


def with_resolved(argv: Sequence[str], resolve: Callable[[str], str]) -> list[str]:
    """Command-line arguments whose --config names a file.

    Args:
        argv: as given, the program's name first.
        resolve: the file of what was given; its errors are passed on.
    """
    result = list(argv)
    for i, argument in enumerate(result):
        if argument.startswith("--config="):
            result[i] = f"--config={resolve(argument.removeprefix('--config='))}"
        elif i and result[i - 1] == "--config":
            result[i] = resolve(argument)
        if result[i] != argument:
            _given[result[i]] = argument
    return result


def as_given(argv: Sequence[str]) -> list[str]:
    """The arguments with the names that `with_resolved` made files of, to be shown."""
    return [_given.get(argument, argument) for argument in argv]
