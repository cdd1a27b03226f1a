"""Small label runs for tests."""

from fourierreg.data.manifest import Pair, write_pairs
from tests.brains import write_pair

FAST = {"modes": 6, "num_steps": 3, "size": 24}
FAST_OPTIONS = ["--modes", "6", "--num-steps", "3", "--size", "24", "--quiet"]
ONE_WORKER = ("--workers", "1")


def make_pairs(folder, count=3, labels=True):
    """Write the images of pairs of small heads and their manifest."""
    pairs = []
    for i in range(count):
        home = folder / f"p{i}"
        home.mkdir(parents=True)
        source, target = write_pair(home, same_grid=i % 2 == 0)
        maps = [str(home / f"{n}_labels.nii.gz") for n in ("source", "target")]
        pairs.append(Pair(str(source), str(target), *(maps if labels else ("", ""))))
    write_pairs(folder / "pairs.csv", pairs)
    return pairs


def without_times(rows):
    return [{k: v for k, v in row.items() if k not in ("seconds", "finished")} for row in rows]


def command(folder, *options):
    return ["label", str(folder / "pairs.csv"), "-o", str(folder / "out"), *FAST_OPTIONS, *options]
