"""How anything is timed: processes, rounds, statistics, and the machine."""
