"""CSV tables of benchmark results, to which every finished run appends its rows.

An interrupted benchmark resumes: it skips the runs that are in its table.
"""

import csv
import io
from pathlib import Path

FOLDER = Path(__file__).parent / "tables"


def read(name):
    """Rows of a table as dictionaries of strings; empty if the table does not exist."""
    path = FOLDER / name
    if not path.exists():
        return []
    with path.open() as file:
        return list(csv.DictReader(file))


def has(name, **key):
    """Whether a table has a row with the given values."""
    return any(all(row[k] == str(v) for k, v in key.items()) for row in read(name))


def append(name, row):
    """Append a row; a new table starts with a header."""
    extend(name, [row])


def extend(name, rows):
    """Append the rows of one run in one write."""
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
    """Replace a table by the rows of one run."""
    (FOLDER / name).unlink(missing_ok=True)
    extend(name, rows)
