"""What we raise and what we warn of."""


class GlmmError(Exception):
    """The base of every error raised on purpose by this package."""


class FormulaError(GlmmError, ValueError):
    """A formula that cannot be read, or that has no single meaning."""


class DataError(GlmmError, ValueError):
    """Data that do not fit the formula, the family or the question."""


class UnknownNameError(GlmmError, LookupError):
    """A name that is in no list: a column, a family, a prior's target."""


class NotSupportedError(GlmmError, NotImplementedError):
    """Something that has a meaning but is not built; the message names the alternative."""


class ConvergenceError(GlmmError, RuntimeError):
    """A computation that did not reach its answer."""


class DataWarning(UserWarning):
    """Something was done with the data that the user should know of, such as rows left out."""


class ConvergenceWarning(UserWarning):
    """A result that should not be trusted yet; the message says what to do."""


class SingularFitWarning(UserWarning):
    """A variance estimated as zero, or a correlation as plus or minus one."""
