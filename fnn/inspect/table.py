"""Plain-text tables: columns that line up, numbers to the right."""

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]], totals: Sequence[str] = (), left: int = 1) -> str:
    """Text with the first `left` columns flush left and the others flush right.

    >>> print(table(["layer", "size"], [["conv", "1,216"], ["relu", "0"]], totals=["total", "1,216"]))
    layer   size
    ------------
    conv   1,216
    relu       0
    ------------
    total  1,216
    """
    everything = [header, *rows, *([totals] if totals else [])]
    widths = [max(len(row[i]) for row in everything) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        cells = [c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        return "  ".join(cells).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([line(header), rule, *map(line, rows), *([rule, line(totals)] if totals else [])])
