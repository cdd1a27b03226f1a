"""Image dissimilarities Dist(S∘φ⁻¹, T) of Eq. 3, with the force they exert on the deformation.

The energy is γ/2 Dist. Every Dist is a sum over the voxels of the mask (over all voxels without
one); on a coarser grid it is multiplied by the number of voxels that one coarse voxel stands for.
The force is the derivative of that sum: ½ dDist/dI(x) ∇(S∘φ⁻¹)(x), where I is the deformed image
and ∇ the slope of the linear interpolant.

Images are (pairs, N_1, …, N_d); every Dist is an array (pairs,), which stays on the device.
"""

from fourierreg import checks
from fourierreg.errors import InputTypeError
from fourierreg.image.similarity.base import Similarity
from fourierreg.image.similarity.correlation import Correlation
from fourierreg.image.similarity.local_correlation import LocalCorrelation
from fourierreg.image.similarity.local_likelihood import LocalLikelihood
from fourierreg.image.similarity.mutual_information import MutualInformation
from fourierreg.image.similarity.sum_of_squares import SumOfSquares
from fourierreg.image.similarity.unavailable import UnavailableSimilarity

__all__ = [
    "SIMILARITIES",
    "Correlation",
    "LocalCorrelation",
    "LocalLikelihood",
    "MutualInformation",
    "Similarity",
    "SumOfSquares",
    "UnavailableSimilarity",
    "describe",
    "name_of",
    "similarity_of",
]

SIMILARITIES: dict[str, type[Similarity]] = {
    "ssd": SumOfSquares,
    "ncc": Correlation,
    "lncc": LocalCorrelation,
    "lncc-likelihood": LocalLikelihood,
    "mi": MutualInformation,
}


def similarity_of(value: str | Similarity) -> Similarity:
    """The similarity of a name, or the one that was given."""
    if isinstance(value, Similarity):
        try:
            hash(value)
        except TypeError as error:
            raise InputTypeError(
                f"similarity: {type(value).__name__} cannot be hashed; declare it "
                "@dataclass(frozen=True)"
            ) from error
        return value
    return SIMILARITIES[checks.choice("similarity", value, tuple(SIMILARITIES))]()


def name_of(similarity: Similarity) -> str:
    """The name of a similarity in `SIMILARITIES`; its class name for one of the user's own."""
    names = (name for name, kind in SIMILARITIES.items() if type(similarity) is kind)
    return next(names, type(similarity).__name__)


def describe(similarity: Similarity) -> str:
    """Its name; with its parameters where they are not the default."""
    name = name_of(similarity)
    default = name in SIMILARITIES and similarity == SIMILARITIES[name]()
    return name if default else repr(similarity)
