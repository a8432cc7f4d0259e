"""What a formula consists of, as values; every `text` is in the user's own words."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from glmm_bayes.formula.tokens import arguments, plain_name

STRUCTURE_NAMES = frozenset(
    [
        *("us", "diag", "homdiag", "cs", "homcs", "toep", "homtoep", "rr"),
        *("ar1", "hetar1", "ar", "arma", "ou", "rw1", "rw2"),
        *("exp", "gau", "mat", "spherical", "spde", "gp", "hsgp"),
        *("phylo", "relmat", "precmat", "pedigree", "icar", "car", "bym2", "sar", "kron"),
    ]
)
SPECIAL_NAMES = frozenset(["s", "t2", "te", "ti", "cs"])


@dataclass(frozen=True)
class Group:
    """
    What a random term's effects belong to: a level of one factor, or of several crossed ones.

    No factors at all is `| 1`: one process that all rows share. With `membership` a row belongs
    to a level of every factor at once, with `weights`, which `scale` makes sum to one.

    Examples
    --------
    >>> Group(("a", "`b c`")).label
    'a:b c'
    """

    factors: tuple[str, ...]
    weights: tuple[str, ...] = ()
    membership: bool = False
    scale: bool = True

    @property
    def label(self) -> str:
        """The group as tables call it."""
        names = [plain_name(text) or text for text in self.factors]
        if self.membership:
            return f"mm({','.join(names)})"
        return ":".join(names) or "1"


@dataclass(frozen=True)
class RandomPart:
    """
    One random term on one group, such as `(1 + x | g)` or `ar1(time | g)`.

    `columns` is the left side, for formulaic to read; `independent` is `||`; terms of one `id`
    share a covariance; positional `arguments` are under "0", "1", …
    """

    structure: str
    columns: str
    group: Group
    independent: bool
    id: str | None
    arguments: Mapping[str, str]
    text: str


@dataclass(frozen=True)
class SpecialPart:
    """A term that formulaic does not know, such as `s(x, k=5)`, with its arguments as written."""

    name: str
    arguments: tuple[str, ...]
    text: str

    @property
    def places(self) -> tuple[str, ...]:
        """The arguments without a keyword."""
        return tuple(item for keyword, item in self._given if keyword is None)

    @property
    def options(self) -> dict[str, str]:
        """The arguments with one, by it."""
        return {keyword: item for keyword, item in self._given if keyword is not None}

    @property
    def _given(self) -> list[tuple[str | None, str]]:
        return arguments(", ".join(self.arguments), self.text)


@dataclass(frozen=True)
class PredictorPart:
    """
    The right side for one distribution parameter; `fixed` is for formulaic to read.

    Without `intercept` the constant column is the affair of other parameters; a `step` is the
    number of the threshold that this is, from which further columns are subtracted.
    """

    fixed: str
    offsets: tuple[str, ...]
    random: tuple[RandomPart, ...]
    special: tuple[SpecialPart, ...]
    intercept: bool = True
    step: str | None = None


@dataclass(frozen=True)
class Response:
    """
    The left side: an expression, failures where it was `cbind(successes, failures)`.

    A `cbind` of more columns has these in `others`.
    `extras` are what follows a bar, such as `("trials", "n")`.
    """

    expression: str
    failures: str | None
    extras: tuple[tuple[str, str], ...]
    text: str
    others: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a `cbind`, if it was one."""
        return () if self.failures is None else (self.expression, self.failures, *self.others)


@dataclass(frozen=True)
class Formula:
    """
    The whole: `predictors` has one entry a distribution parameter, "mu" first.

    Where there are several responses, those `beside` the first each have a predictor of their
    mean; `predictors` may then have further ones whose names are responses' too, as without data
    these cannot be told from parameters. Once they are, `responses` has the expression of the
    response that each parameter is of, and `asked` has all responses in order.
    """

    texts: tuple[str, ...]
    response: Response
    predictors: Mapping[str, PredictorPart]
    residual: RandomPart | None
    beside: tuple[tuple[Response, PredictorPart], ...] = ()
    responses: Mapping[str, str] = field(default_factory=dict)
    asked: tuple[Response, ...] = ()

    @property
    def is_several(self) -> bool:
        """Whether rows may lack a response: of several, or of one whose missing values are kept."""
        return bool(self.beside) or "mi" in dict(self.response.extras)

    @property
    def sides(self) -> tuple[PredictorPart, ...]:
        """All right sides."""
        return (*self.predictors.values(), *(part for _, part in self.beside))
