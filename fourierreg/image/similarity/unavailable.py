"""A similarity of the user's own in a file: its description is known, its code is not."""

from dataclasses import dataclass
from typing import Any, NoReturn

from fourierreg.errors import InputError
from fourierreg.image.similarity.base import Similarity


@dataclass(frozen=True)
class UnavailableSimilarity(Similarity):
    """Stands for a similarity that was not one of this package.

    Parameters
    ----------
    description : str
    """

    description: str

    def __repr__(self) -> str:
        return self.description

    def value_and_half_derivative(self, *arguments: Any) -> NoReturn:
        """Raises an InputError."""
        raise InputError(
            f"similarity: {self.description} is not in this file or package; give an instance of it"
        )

    def curvature(self, *arguments: Any) -> NoReturn:
        """Raises an InputError."""
        self.value_and_half_derivative()
