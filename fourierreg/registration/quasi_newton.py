"""What one minimisation learns of the Hessian, handed to the next as a change of coordinates.

α, the noise and the grid change between fits, the Hessian hardly: without its memory every fit
would spend its first iterations learning it again. SciPy's L-BFGS-B takes no memory, but it can
be given coordinates in which that memory is the identity.
"""

import math

import numpy as np


class Factor:
    """C with C Cᵀ the BFGS inverse Hessian of pairs (s, y), in product form.

    C = (I + s_m q_mᵀ) … (I + s_1 q_1ᵀ) √γ with q = -y / s·y + B s / √(s·y s·Bs), B the inverse of
    the product so far: then (I + s qᵀ) B⁻¹ (I + q sᵀ) is the BFGS update of B⁻¹.

    Parameters
    ----------
    pairs : sequence of (s, y), 1D arrays
        Steps and changes of the gradient; those with s·y <= 0 are left out.
    """

    def __init__(self, pairs):
        self.terms, self.root = [], 1.0
        pairs = [(s, y) for s, y in pairs if s @ y > 0]
        if pairs:
            s, y = pairs[-1]
            self.root = math.sqrt((s @ y) / (y @ y))
        for s, y in pairs:
            bs = self.solve_transposed(self.solve(s))
            self.terms.append((s, bs / math.sqrt((s @ y) * (s @ bs)) - y / (s @ y)))

    def __call__(self, z):
        """C z."""
        x = self.root * z
        for s, q in self.terms:
            x = x + s * (q @ x)
        return x

    def transposed(self, g):
        """Cᵀ g."""
        for s, q in reversed(self.terms):
            g = g + q * (s @ g)
        return self.root * g

    def solve(self, x):
        """C⁻¹ x."""
        for s, q in reversed(self.terms):
            x = x - s * ((q @ x) / (1.0 + q @ s))
        return x / self.root

    def solve_transposed(self, g):
        """C⁻ᵀ g."""
        g = g / self.root
        for s, q in self.terms:
            g = g - q * ((s @ g) / (1.0 + q @ s))
        return g

    def pairs_of(self, inverse_hessian):
        """The pairs of SciPy's `LbfgsInvHessProduct` in z, taken to x = C z."""
        if inverse_hessian is None:
            return []
        both = zip(
            np.atleast_2d(inverse_hessian.sk), np.atleast_2d(inverse_hessian.yk), strict=True
        )
        return [(self(s), self.solve_transposed(y)) for s, y in both]
