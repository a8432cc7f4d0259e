"""How numbers are written in tables, and remarks below them."""


class Notes:
    """Remarks below a table, each written once and referred to by its number."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def mark(self, text: str) -> str:
        """Give the sign that refers to a remark, old or new."""
        if text not in self._texts:
            self._texts.append(text)
        return f"({self._texts.index(text) + 1})"

    def lines(self) -> list[str]:
        """Give the remarks with their signs."""
        return [f"({k}) {text}." for k, text in enumerate(self._texts, start=1)]


def seconds(value: float | None) -> str:
    """Write seconds; nothing for None."""
    if value is None:
        return ""
    return f"{value:.3f}" if value < 1 else f"{value:,.2f}" if value < 100 else f"{value:,.0f}"


def figures(value: float) -> str:
    """Write a number with three figures, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def times(a: float | None, b: float | None) -> str:
    """Write how many times `b` goes into `a`; nothing where one is not there."""
    if a is None or not b:
        return ""
    ratio = a / b
    return f"{ratio:,.0f}×" if ratio >= 10 else f"{ratio:.2g}×"
