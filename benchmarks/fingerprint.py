"""Whether two compiled programs are the same: then a ratio of their times is the noise of the measurement."""

import hashlib
import re

# What an instruction is called, where it comes from, and comments; none of it is computed.
NOISE = re.compile(r'/\*.*?\*/|, metadata=\{(?:"[^"]*"|[^{}"])*\}|, frontend_attributes=\{[^{}]*\}')
NAME = re.compile(r"%[\w.\-]+")
PARAMETER = re.compile(r"(?<=[(\s])[\w.\-]+: ")  # of a computation's head: its name before its shape
INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%|^(?:ENTRY )?%|^\}", re.MULTILINE)


def fingerprint(program: str) -> str:
    """A short hash of optimised HLO text, equal for programs that differ in names and origins alone.

    >>> one = "ENTRY %main (x.1: f32[2]) -> f32[2] {\\n  ROOT %y.1 = f32[2]{0} negate(%x.1)\\n}"
    >>> fingerprint(one) == fingerprint(one.replace("x.1", "input").replace("y.1", "output"))
    True
    >>> fingerprint(one) == fingerprint(one.replace("negate", "abs"))
    False
    """
    names: dict[str, str] = {}
    text = PARAMETER.sub("", NOISE.sub("", program))
    lines = [line for line in text.splitlines() if INSTRUCTION.match(line)]
    text = NAME.sub(lambda name: names.setdefault(name[0], f"%{len(names)}"), "\n".join(lines))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
