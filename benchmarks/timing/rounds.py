"""Turns and what they say: who runs when, and the medians, quartiles and ratios of the times.

A round gives every program one turn of some steps, in an order drawn anew each time, so that whatever else the machine
does falls on all of them. A ratio compares two turns of the same round; the ratio of a program is the median of these.
"""

import random
from collections.abc import Callable, Mapping, Sequence

import numpy as np

TURN_SECONDS = 0.25  # long enough for the clock and the scheduler, short enough for many rounds
MOST_STEPS = 5000
ROUNDS = 15
LEAST_ROUNDS = 5  # below that quartiles mean nothing
SLOW_SECONDS, LEAST_TURNS = 2.0, 3  # one step of a program this slow is its own average: fewer turns do
CRAWLING_SECONDS = 8.0  # and of one this slow a single turn
CAP_SECONDS = 60.0  # for all turns of one subject: some ten rounds of a network, longer than a neighbour's burst

Times = dict[str, list[float | None]]


def steps_of_turn(seconds: float, turn: float = TURN_SECONDS) -> int:
    """How many steps of `seconds` each fill a turn.

    >>> steps_of_turn(0.01), steps_of_turn(3.0)
    (25, 1)
    """
    return max(1, min(MOST_STEPS, round(turn / max(seconds, 1e-9))))


def turns_of(turn_seconds: Mapping[str, float], *, rounds: int = ROUNDS, cap: float = CAP_SECONDS) -> dict[str, int]:
    """Turns of each program: an equal share of the time, between the least that tells something and `rounds`.

    >>> turns_of({"fast": 0.25, "slow": 2.0, "very slow": 9.0}, rounds=15, cap=30)
    {'fast': 15, 'slow': 5, 'very slow': 1}
    """
    share = cap / max(1, len(turn_seconds))

    def least(seconds: float) -> int:
        return LEAST_ROUNDS if seconds <= SLOW_SECONDS else LEAST_TURNS if seconds <= CRAWLING_SECONDS else 1

    return {name: min(rounds, max(least(s), int(share / s))) for name, s in turn_seconds.items()}


def plan(turns: Mapping[str, int], reference: str, seed: int = 0) -> list[list[str]]:
    """The rounds, each a list of names in a random order; turns are spread evenly over them.

    The reference, where present, runs in every round: each turn of another program then has one to be compared with.

    >>> [sorted(names) for names in plan({"a": 2, "b": 1}, "a")]
    [['a'], ['a', 'b']]
    """
    order, rounds = random.Random(seed), max(turns.values(), default=0)
    turns = {name: rounds if name == reference else n for name, n in turns.items()}
    planned = []
    for i in range(rounds):
        now = [name for name, n in turns.items() if (i + 1) * n // rounds > i * n // rounds]
        order.shuffle(now)
        planned.append(now)
    return planned


def take_turns(
    rounds: Sequence[Sequence[str]], run: Callable[[str], float | None], before: Callable[[], None] = lambda: None
) -> Times:
    """Seconds a step by name and round; None where a program had no turn, or failed in it and was left out after.

    Args:
      rounds: of `plan`.
      run: takes one turn of a program and returns its seconds a step, or None if it failed.
      before: called before every round.
    """
    times: Times = {name: [None] * len(rounds) for names in rounds for name in names}
    failed = set()
    for i, names in enumerate(rounds):
        before()
        for name in names:
            if name not in failed:
                times[name][i] = run(name)
                if times[name][i] is None:
                    failed.add(name)
    return times


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles.

    >>> quartiles([1.0, 2.0, 3.0, 4.0, 100.0])
    {'low': 2.0, 'median': 3.0, 'high': 4.0}
    """
    low, median, high = np.percentile(np.asarray(values, float), [25, 50, 75])
    return {"low": float(low), "median": float(median), "high": float(high)}


def statistics(times: Times, reference: str) -> dict[str, dict]:
    """By name: turns taken, quartiles of the seconds a step, and of the ratio to the reference in the same round.

    A ratio above 1 means that the reference is faster. A name that never ran has no entry.

    >>> found = statistics({"a": [1.0, 1.0, 2.0], "b": [2.0, None, 6.0]}, "a")
    >>> found["b"]["turns"], found["b"]["seconds"]["median"], found["b"]["ratio"]["median"]
    (2, 4.0, 2.5)
    """
    found = {}
    for name, seconds in times.items():
        ran = [s for s in seconds if s is not None]
        if not ran:
            continue
        pairs = zip(seconds, times.get(reference, []), strict=False)
        ratios = [s / base for s, base in pairs if s is not None and base is not None]
        found[name] = {"turns": len(ran), "seconds": quartiles(ran), "ratio": quartiles(ratios) if ratios else None}
    return found
