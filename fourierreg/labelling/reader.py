"""Images of the pairs of a label run, read ahead by a thread."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from fourierreg.data.manifest import Pair
from fourierreg.data.nifti import read_image, resized

AHEAD = 2  # pairs that are read before they are asked for


class PairReader:
    """Context manager whose `sides` are sequences of sources and targets.

    An item is read when it is asked for, as a rule shortly before; the exception of one that
    cannot be read is raised then.

    Parameters
    ----------
    pairs : sequence of Pair
    size : int or None
        Voxels of the longest axis to which images are resampled.
    """

    def __init__(self, pairs: Sequence[Pair], size: int | None):
        self.pairs, self.size = pairs, size
        self.pending: dict[int, Future] = {}
        self.pool = ThreadPoolExecutor(1)
        self.sides = _Side(self, 0), _Side(self, 1)

    def __enter__(self) -> "PairReader":
        return self

    def __exit__(self, *error: object) -> None:
        self.pool.shutdown(cancel_futures=True)

    def get(self, pair: int) -> tuple[Any, Any]:
        """Source and target of a pair."""
        self.pending = {i: future for i, future in self.pending.items() if i >= pair}
        for i in range(pair, min(pair + 1 + AHEAD, len(self.pairs))):
            if i not in self.pending:
                self.pending[i] = self.pool.submit(self._read, self.pairs[i])
        try:
            return self.pending[pair].result()
        except Exception:
            del self.pending[pair]  # memory may have been short: it is read again if asked for
            raise

    def _read(self, pair: Pair) -> tuple[Any, Any]:
        names = zip(("source", "target"), pair[:2], strict=True)
        source, target = (resized(read_image(path, name), self.size) for name, path in names)
        return source, target


class _Side(Sequence):
    """Sources or targets of a `PairReader`."""

    def __init__(self, reader: PairReader, side: int):
        self.reader, self.side = reader, side

    def __len__(self) -> int:
        return len(self.reader.pairs)

    def __getitem__(self, pair: Any) -> Any:
        return self.reader.get(pair)[self.side]
