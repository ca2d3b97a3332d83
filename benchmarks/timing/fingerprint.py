"""Whether two compiled programs are the same: then a ratio of their times is the noise of the measurement.

Only programs that were compiled with the same options can be compared: some options work below what the text shows.
"""

import hashlib
import re

# What an instruction is called, where it comes from, and comments; none of it is computed.
NOISE = re.compile(r'/\*.*?\*/|, metadata=\{(?:"[^"]*"|[^{}"])*\}|, frontend_attributes=\{[^{}]*\}')
NAME = re.compile(r"%[\w.\-]+")
PARAMETER = re.compile(r"(?<=[(\s])[\w.\-]+: ")  # of a computation's head: its name before its shape
INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%|^(?:ENTRY )?%|^\}", re.MULTILINE)


LEFT_OUT = "{...}"  # stands for a long constant


def fingerprint(program: str | None) -> str | None:
    """A short hash of optimised HLO text, equal for programs that differ in names and origins alone.

    None where the text does not tell: there is none, or it leaves out constants.

    >>> one = "ENTRY %main (x.1: f32[2]) -> f32[2] {\\n  ROOT %y.1 = f32[2]{0} negate(%x.1)\\n}"
    >>> fingerprint(one) == fingerprint(one.replace("x.1", "input").replace("y.1", "output"))
    True
    >>> fingerprint(one) == fingerprint(one.replace("negate", "abs"))
    False
    >>> fingerprint(one.replace("negate(%x.1)", "constant({...})")) is None
    True
    """
    if program is None or LEFT_OUT in program:
        return None
    names: dict[str, str] = {}
    text = PARAMETER.sub("", NOISE.sub("", program))
    lines = [line for line in text.splitlines() if INSTRUCTION.match(line)]
    if not any("=" in line for line in lines):
        return None
    text = NAME.sub(lambda name: names.setdefault(name[0], f"%{len(names)}"), "\n".join(lines))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
