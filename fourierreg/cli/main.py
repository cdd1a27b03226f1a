"""Entry point: the parser, and what becomes of errors."""

import argparse
import errno
import signal
import sys
import traceback

from fourierreg import __version__
from fourierreg.cli import (
    apply,
    bids,
    demo,
    evaluate,
    export,
    label,
    pair,
    pairs,
    predict,
    prepare,
    report,
    simulate,
    train,
    warm_up,
)
from fourierreg.cli.common import forget_interruptions, in_options, interrupt
from fourierreg.errors import InputError

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Options whose name differs from the argument of the function.
ALIASES = {"out": ("output",), "path": ("output",), "folder": ("directory", "output")}
EPILOG = """\
examples:
  fourierreg demo
  fourierreg map-alpha source.nii.gz target.nii.gz -o run/
  fourierreg register source.nii.gz target.nii.gz --alpha 3 -o run/
  fourierreg apply run/ source_labels.nii.gz --labels -o moved_labels.nii.gz
  antsApplyTransforms -d 3 -i source.nii.gz -r target.nii.gz -t run/1Warp.nii.gz -o moved.nii.gz
"""


class _Parser(argparse.ArgumentParser):
    """Reports errors in one line; takes no abbreviated options."""

    def __init__(self, **options):
        super().__init__(**{"allow_abbrev": False, **options})

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def main(argv=None):
    """Run the command line; returns the exit code.

    0; 1 if a run did not converge or has warnings, or some of many files or pairs failed; 2 for bad
    input, or a disk or permission that prevents the run; 3 for a bug; 130 when interrupted.
    """
    parser, commands = _parser()
    given = list(sys.argv[1:] if argv is None else argv)
    if given and given[0].replace("_", "-") in commands:
        given[0] = given[0].replace("_", "-")  # as the function is called
    options = parser.parse_args(given)
    options.arguments = [str(a) for a in (sys.argv[1:] if argv is None else argv)]
    forget_interruptions()
    previous = {number: signal.signal(number, interrupt) for number in SIGNALS}
    try:
        return options.run(options) or 0
    except KeyboardInterrupt:
        print("fourierreg: interrupted; nothing incomplete was left behind", file=sys.stderr)
        return 130
    except InputError as error:
        text = _with_options(str(error), commands[options.command])
        print(f"fourierreg {options.command}: {text}", file=sys.stderr)
        return 2
    except MemoryError as error:
        why = f" ({error})" if str(error) else ""
        print(
            f"fourierreg {options.command}: out of memory{why}; use fewer modes, or smaller images",
            file=sys.stderr,
        )
        return 2
    except BrokenPipeError:  # the reader of our output has closed it
        sys.stdout = None
        return 1
    except OSError as error:  # a disk or a permission, wherever it came up
        where = f"{error.filename}: " if error.filename else ""
        full = error.errno == errno.ENOSPC
        why = "the disk is full; free space" if full else f"{error.strerror or error}; resolve this"
        print(f"fourierreg {options.command}: {where}{why} and run again", file=sys.stderr)
        return 2
    except Exception as error:
        traceback.print_exc()
        print(
            f"fourierreg {options.command}: this is a bug ({type(error).__name__}); please report "
            "it with the lines above and the command",
            file=sys.stderr,
        )
        return 3
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _with_options(text, command):
    """An error message with the names of options in place of those of Python arguments."""
    known = {action.dest: action for action in command._actions}
    names, colon, rest = text.partition(":")
    renamed = []
    for name in names.split(", "):
        action = next((known[n] for n in (name, *ALIASES.get(name, ())) if n in known), None)
        if action is None:
            return in_options(text)
        renamed.append(action.option_strings[-1] if action.option_strings else action.metavar)
    return in_options(", ".join(renamed) + colon + rest)


def _parser():
    """The parser, and the parsers of the commands by name."""
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
        export,
        pairs,
        label,
        simulate,
        train,
        evaluate,
        report,
        bids,
        warm_up,
    ):
        command.add_to(commands)
    return parser, commands.choices
