"""The public names of a module are stated once with words, in its docstring, and once as imports."""

import re


def listed(doc: str | None) -> list[str]:
    """The names that a docstring lists: lines of a name, at least two spaces, and what it is.

    >>> listed("Layers.\\n\\n    dense  every output a weighted sum\\n    conv   a window slid over space\\n")
    ['dense', 'conv']
    """
    return re.findall(r"^ *(\w+)  +\S", doc or "", re.MULTILINE)
