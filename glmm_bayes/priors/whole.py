"""Priors of several parameters together, and others that are made of what a user knows."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from glmm_bayes.errors import DataError
from glmm_bayes.priors.densities import POSITIVE, REAL

# What these speak of lies here; none of them is a distribution of PyMC's.
WHOLE = {
    "Horseshoe": REAL,
    "R2D2": REAL,
    "Lasso": REAL,
    "Monotonic": REAL,
    "Decomposed": POSITIVE,
}
# Of these the parameters are not sampled themselves: others are, of which they are a function.
DEPENDENT = ("Horseshoe", "R2D2", "Monotonic")


class Makers:
    """Ways to make a `Prior` by what it does."""

    @classmethod
    def whole(cls, distribution: str, arguments: Mapping[str, Any]) -> Self:
        """Make a prior that is named in `WHOLE`; what its arguments may be, its maker checks."""
        raise NotImplementedError

    @classmethod
    def horseshoe(
        cls,
        df: float = 1.0,
        scale_global: float = 1.0,
        df_global: float = 1.0,
        scale_slab: float = 2.0,
        df_slab: float = 4.0,
        par_ratio: float | None = None,
    ) -> Self:
        """
        Let a few of the coefficients be large and shrink the others: the regularised horseshoe.

        Parameters
        ----------
        df
            Degrees of freedom of the local scales, half-t about 0 with scale 1.
        scale_global, df_global
            Those of the global scale, half-t about 0; in units of `sigma` where the model has such
            a constant and the link of the mean is the identity.
        scale_slab, df_slab
            The t distribution of a coefficient that is not shrunk, in units of s / 2.5, with s
            the scale of the default priors, which is 2.5 but for responses that spread wider.
        par_ratio
            Expected number of coefficients that are not zero, over that of those that are; in
            place of `scale_global`, which it makes `par_ratio / sqrt(n)`.

        Notes
        -----
        beta sd(x) = z tau lambda / sqrt(1 + tau^2 lambda^2 / c^2), with z standard normal,
        of the columns' standard deviations sd(x): Piironen & Vehtari (2017), Electron. J.
        Statist. 11, 5018-5051. In brms columns are not scaled.
        """
        given = {
            "df": df,
            "scale_global": scale_global,
            "df_global": df_global,
            "scale_slab": scale_slab,
            "df_slab": df_slab,
        }
        given |= {} if par_ratio is None else {"par_ratio": par_ratio}
        return cls.whole("Horseshoe", _positive("horseshoe", given))

    @classmethod
    def r2d2(cls, mean_R2: float = 0.5, prec_R2: float = 2.0, cons_D2: float = 0.5) -> Self:
        """
        Say how much of the variance the columns explain, and share that out among them.

        Parameters
        ----------
        mean_R2, prec_R2
            R2 ~ Beta(mean_R2 prec_R2, (1 - mean_R2) prec_R2).
        cons_D2
            Concentration of the Dirichlet distribution of the columns' shares: below 1, a few
            columns have most of it.

        Notes
        -----
        beta sd(x) ~ Normal(0, sigma^2 share R2 / (1 - R2)), of the columns' standard deviations
        sd(x); sigma is 1 where the model has no such constant or the link of the mean is not the
        identity. Zhang, Naughton, Bondell & Reich (2022), J. Amer. Statist. Assoc. 117, 862-874;
        in brms columns are not scaled.
        """
        given = _positive("r2d2", {"mean_R2": mean_R2, "prec_R2": prec_R2, "cons_D2": cons_D2})
        if mean_R2 >= 1:
            raise DataError(f"mean_R2={mean_R2!r} of Prior.r2d2 must lie between 0 and 1.")
        return cls.whole("R2D2", given)

    @classmethod
    def lasso(cls, scale: float) -> Self:
        """
        Shrink coefficients by a Laplace distribution: beta sd(x) ~ Laplace(0, scale).

        Notes
        -----
        Park & Casella (2008), J. Amer. Statist. Assoc. 103, 681-686. `sd(x)` is the standard
        deviation of the coefficient's column.
        """
        return cls.whole("Lasso", _positive("lasso", {"scale": scale}))

    @classmethod
    def decomposed(cls, total: Any, concentration: Any = 1.0) -> Self:
        """
        Give the total variance of random effects a prior, and share it out among the terms.

        Parameters
        ----------
        total
            The prior of the root of the total variance, on the scale of the linear predictor.
        concentration
            Of the Dirichlet distribution of the shares: a number, or one for each standard
            deviation. 1 is uniform; below 1, one term has most of the variance; above, they are
            more nearly alike.

        Notes
        -----
        The standard deviation of a slope counts by what the slope adds where its column is one of
        its standard deviations off. Fuglstad, Hem, Knight, Rue & Riebler (2020), Bayesian
        Analysis 15, 1109-1137.
        """
        if not isinstance(total, cls) or getattr(total, "support", None) != POSITIVE:
            raise DataError(
                f"total={total!r} of Prior.decomposed must be a prior of a positive number, such "
                f"as gb.Prior('HalfNormal', sigma=1)."
            )
        return cls.whole(
            "Decomposed",
            {"total": total, **_positive("decomposed", {"concentration": concentration})},
        )

    @classmethod
    def pc(cls, u: float, a: float) -> Self:
        """
        Give a standard deviation the prior with P(sd > u) = a that favours the model without it.

        Notes
        -----
        Exponential with rate -log(a) / u: Simpson, Rue, Riebler, Martins & Sorbye (2017),
        Statistical Science 32, 1-28.

        Examples
        --------
        >>> from glmm_bayes import Prior
        >>> Prior.pc(u=2, a=0.05)
        Exponential(lam=1.498)
        """
        return cls("Exponential", lam=_rate("pc", u, a))  # type: ignore[call-arg]

    @classmethod
    def pc_range(cls, u: float, a: float) -> Self:
        """
        Give the range of a field in the plane the prior with P(range < u) = a.

        Notes
        -----
        Favours long ranges, so fields that hardly vary. InverseGamma(1, -log(a) u), of the range
        as the field's structure defines it: Fuglstad, Simpson, Lindgren & Rue (2019), J. Amer.
        Statist. Assoc. 114, 445-452.
        """
        lam = _rate("pc_range", u, a) * u * u
        return cls("InverseGamma", alpha=1.0, beta=lam)  # type: ignore[call-arg]


def _rate(maker: str, u: float, a: float) -> float:
    given = _positive(maker, {"u": u, "a": a})
    if given["a"] >= 1:
        raise DataError(f"a={a!r} of Prior.{maker} is a probability, between 0 and 1.")
    return float(-np.log(given["a"]) / given["u"])


def _positive(maker: str, given: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in given.items():
        numbers = np.asarray(value)
        finite = numbers.dtype.kind in "iuf" and np.isfinite(numbers).all()
        if not finite or not (numbers > 0).all():
            raise DataError(f"{name}={value!r} of Prior.{maker} must be positive.")
    return dict(given)
