"""`python -m lrax diagnose PATH`: what went wrong with a run, with an exit status for CI."""

import argparse
import json
import sys
from typing import Any

from .. import _require
from ..finders.diagnose.diagnose import diagnose
from ..finders.diagnose.names import MONITORS
from ..schedules.parse import printable
from ..sweeps.result import SweepResult
from . import values
from .errors import Mistake, is_refusal, with_flags

UNREADABLE = 2  # the exit status of a file that cannot be read, and of a wrong command
COLUMNS = ("loss", "val_loss", "rates", "steps")


def add_to(commands: Any) -> None:
    """Adds the command to argparse's subparsers."""
    parser = commands.add_parser(
        "diagnose",
        help="say what went wrong with a run, from its log",
        description="Reads the log of a run and says what went wrong, how sure that is, and what to"
        " change. The exit status\nis 0 for a healthy run, 1 if there are findings, 2 if a file"
        " cannot be read.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="a CSV, JSON lines, trainer_state.json, TensorBoard events, or a .npz that"
        " `SweepResult.save` wrote",
    )
    for name in (*COLUMNS, *MONITORS):
        parser.add_argument(
            f"--{name.replace('_', '-')}", metavar="COLUMN", help=f"name of the column of {name}"
        )
    parser.add_argument("--dtype", metavar="NAME", help="dtype of the parameters, such as bfloat16")
    parser.add_argument("--json", action="store_true", help="print JSON, one object per file")
    parser.add_argument(
        "--out", type=values.file, metavar="FILE", help="also draw the curves of one file"
    )
    flags = {name: f"--{name.replace('_', '-')}" for name in (*COLUMNS, "dtype")}
    flags |= {"source": "PATH", "monitors": "--grad-norm and the like"}
    parser.set_defaults(run=_run, flags=flags)


def _run(options: argparse.Namespace) -> int:
    if options.out and len(options.paths) > 1:
        raise Mistake("--out draws one file, and several were given")
    if options.out:
        _require.extra("matplotlib", "plot")  # if it is missing, fail before the work
    columns = {name: getattr(options, name) for name in COLUMNS}
    monitors = {name: text for name in MONITORS if (text := getattr(options, name)) is not None}
    status = 0
    for place, path in enumerate(options.paths):
        try:
            source = SweepResult.load(path) if path.endswith(".npz") else path
            found = diagnose(source, **columns, monitors=monitors or None, dtype=options.dtype)
        except (OSError, ValueError, ImportError) as error:
            # An error from code that is not lrax's needs its whole traceback.
            if not is_refusal(error):
                raise
            text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            text = with_flags(text, options.flags)
            print(f"lrax: {printable(path)}: {printable(text)}", file=sys.stderr)
            status = UNREADABLE
            continue
        if options.json:
            print(json.dumps({"path": path, **found.to_dict()}))
        else:
            print(("\n" if place else "") + str(found))
        if options.out:
            found.plot().savefig(options.out, dpi=150)
        status = max(status, int(bool(found)))
    return status
