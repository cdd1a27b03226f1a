"""The command line: a file per command, each one thin function over the library."""

from fourierreg.cli.main import main

__all__ = ["main"]
