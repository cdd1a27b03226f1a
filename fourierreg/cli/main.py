"""Entry point: the parser, and what becomes of errors."""

import argparse
import signal
import sys

from fourierreg import __version__
from fourierreg.cli import (
    apply,
    demo,
    evaluate,
    label,
    pair,
    pairs,
    predict,
    prepare,
    report,
    simulate,
    train,
)
from fourierreg.cli.common import forget_interruptions, interrupt

SIGNALS = (signal.SIGINT, signal.SIGTERM)
EPILOG = """\
examples:
  fourierreg demo
  fourierreg map-alpha source.nii.gz target.nii.gz -o run/
  fourierreg register source.nii.gz target.nii.gz --alpha 3 -o run/
  fourierreg apply run/ source_labels.nii.gz --labels -o moved_labels.nii.gz
  antsApplyTransforms -d 3 -i source.nii.gz -r target.nii.gz -t run/1Warp.nii.gz -o moved.nii.gz
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def main(argv=None):
    """Run the command line; returns the exit code.

    0, or 1 where a run did not converge, 2 for bad input, 130 when interrupted.
    """
    options = _parser().parse_args(argv)
    options.arguments = [str(a) for a in (sys.argv[1:] if argv is None else argv)]
    forget_interruptions()
    previous = {number: signal.signal(number, interrupt) for number in SIGNALS}
    try:
        return options.run(options) or 0
    except KeyboardInterrupt:
        print("fourierreg: interrupted; nothing incomplete was left behind", file=sys.stderr)
        return 130
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        if not _is_for_the_user(error):
            raise
        print(f"fourierreg {options.command}: {error}", file=sys.stderr)
        return 2
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _is_for_the_user(error):
    """Whether an exception comes from a check (its own module raised it), not from a bug."""
    traceback = error.__traceback__
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    name = traceback.tb_frame.f_globals.get("__name__", "")
    return name.split(".")[0] == "fourierreg"


def _parser():
    parser = _Parser(
        prog="fourierreg",
        description="Register a pair of images and infer the regularization strength α.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fourierreg {__version__}")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=_Parser
    )
    for command in (
        demo,
        prepare,
        pair,
        predict,
        apply,
        pairs,
        label,
        simulate,
        train,
        evaluate,
        report,
    ):
        command.add_to(commands)
    return parser
