"""Tables that grow by one row per finished run, so that an interrupted benchmark goes on."""

import csv
import io
from pathlib import Path

FOLDER = Path(__file__).parent / "tables"


def read(name):
    """Rows of a table as dictionaries of text; none where there is no table yet."""
    path = FOLDER / name
    if not path.exists():
        return []
    with path.open() as file:
        return list(csv.DictReader(file))


def has(name, **key):
    """Whether a row with these values is there."""
    return any(all(row[k] == str(v) for k, v in key.items()) for row in read(name))


def append(name, row):
    """Add a row, with a header if it is the first."""
    extend(name, [row])


def extend(name, rows):
    """Add the rows of one run, in one write."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / name
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    if not path.exists():
        writer.writeheader()
    writer.writerows(rows)
    with path.open("a", newline="") as file:
        file.write(text.getvalue())


def replace(name, rows):
    """Write a table anew, from one run."""
    (FOLDER / name).unlink(missing_ok=True)
    extend(name, rows)
