"""How every command starts: flags, their help, and faults of the caller in one line. What it does is not known here."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterable

from absl import app, flags

from keras_retinaface import extras

_HELP = ("-h", "-?", "-help", "--help", "-helpshort", "--helpshort")
# Whose flags are a command's own; absl and TensorFlow define others, which --helpfull shows.
_OURS = ("keras_retinaface", "data_pipeline", "tools", "benchmarks", "examples")
_PLACEHOLDERS = {"int": "N", "float": "X", "multi int": "N", "multi float": "X"}
_ALSO = (
    "--flagfile=FILE reads flags from a file, one a line; the last setting of a flag wins. --verbosity=-1 shows "
    "warnings only. --helpfull shows the flags of the libraries beneath, too."
)
_HINT = "(--help shows all flags)"
# What TensorFlow prints as it starts: missing GPUs and how it was built. Errors of its ops are raised all the same.
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3"}
_titles: dict[str, str] = {}


def group(title: str, defined: Iterable[str | flags.FlagHolder]) -> None:
    """Puts flags under a title of their own in `--help`."""
    for flag in defined:
        _titles[flag if isinstance(flag, str) else flag.name] = title


def run(main: Callable[[list[str]], int | None], *, name: str | None = None, argv: list[str] | None = None) -> None:
    """Parses flags, runs a command and leaves with its status.

    Unlike `app.run` alone, `--help` and `-h` show the flags of all modules of ours that are loaded and end with
    status 0; wrong flags and a missing package are one line.

    Args:
        main: main function of the command; takes what is left of `argv`. The docstring of its module is the help's
            first part.
        name: what the user typed to start it, where that is not a script or `python -m`.
        argv: the program and its arguments; those of the process by default.
    """
    quiet()
    argv = list(sys.argv if argv is None else argv)
    called = name or os.path.basename(argv[0])

    def parse(arguments: list[str]) -> list[str]:
        given = arguments[1 : arguments.index("--")] if "--" in arguments else arguments[1:]
        if any(word in _HELP for word in given):
            print(_help(main, name or _how_started()))
            sys.exit(0)
        try:
            return flags.FLAGS(arguments)
        except flags.Error as error:
            sys.exit(_fault(called, f"{error} {_HINT}"))

    def guarded(arguments: list[str]) -> int | None:
        try:
            return main(arguments)
        except app.UsageError as error:
            return _fault(called, f"{error} {_HINT}", error.exitcode)
        except ImportError as error:
            said = extras.explain(error, called)
            if said is None:
                raise
            return _fault(called, said)

    app.run(guarded, argv, flags_parser=parse)


def quiet() -> None:
    """Keeps TensorFlow's start off the screen, unless the environment says how much of it is wanted.

    Before TensorFlow is imported; children of the process are quiet too.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", message=r"\s*TensorFlow Addons")


def _fault(called: str, said: str, status: int = 1) -> int:
    said = " ".join(said.split())
    print(said if said.startswith(called) else f"{called}: {said}", file=sys.stderr)
    return status


def _how_started() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {spec.name}" if spec else f"python {os.path.basename(sys.argv[0])}"


def _help(main: Callable, started: str) -> str:
    """Returns what `--help` says: the module's docstring, then every flag of ours under its title."""
    text = inspect.cleandoc(sys.modules[main.__module__].__doc__ or "")
    if not started.startswith("python "):
        # The examples are those of the scripts, and the flags are the same.
        text = re.sub(r"python (\w+_main\.py|-m [\w.]+)", started, text)
    sections: dict[str, list[str]] = {}
    for flag in _own_flags():
        sections.setdefault(_titles.get(flag.name, "Flags"), []).append(_describe(flag))
    parts = [
        f"{title}:\n" + "\n".join(told) for title, told in sorted(sections.items(), key=lambda item: item[0] != "Flags")
    ]
    return "\n\n".join([f"usage: {started} [--flag=value ...]", text, *parts, textwrap.fill(_ALSO, _width())])


def _own_flags() -> list[flags.Flag]:
    """Returns the flags that modules of ours define, in their order."""
    found = {}
    for module, defined in flags.FLAGS.flags_by_module_dict().items():
        if module in (sys.argv[0], "__main__") or module.partition(".")[0] in _OURS:
            # One that another definition has replaced is not the one that is read.
            found.update({flag.name: flag for flag in defined if flags.FLAGS[flag.name] is flag})
    return list(found.values())


def _describe(flag: flags.Flag) -> str:
    kind = flag.flag_type()
    if flag.boolean:
        head = f"--[no]{flag.name}"
    elif hasattr(flag.parser, "enum_values"):
        head = f"--{flag.name}={'|'.join(flag.parser.enum_values)}"
    elif "list" in kind:
        head = f"--{flag.name}=A,B,..."
    else:
        head = f"--{flag.name}={_PLACEHOLDERS.get(kind, 'TEXT')}"
    # absl puts the choices before the text, and after it that a flag may be repeated.
    told = re.sub(r"^<[^>]*>: ", "", " ".join((flag.help or "").split())).partition("; repeat this option to")[0]
    notes = [told if told.endswith(".") else f"{told}."]
    if kind.startswith("multi ") and "more than once" not in told:
        notes.append("May be given more than once.")
    if flag.default not in (None, "", []) and not (flag.boolean and not flag.default):
        default = ",".join(map(str, flag.default)) if isinstance(flag.default, (list, tuple)) else flag.default
        notes.append(f"Default: {'on' if default is True else default}.")
    indent = " " * 6
    return f"  {head}\n" + textwrap.fill(" ".join(notes), _width(), initial_indent=indent, subsequent_indent=indent)


def _width() -> int:
    return max(60, min(shutil.get_terminal_size().columns, 100))
