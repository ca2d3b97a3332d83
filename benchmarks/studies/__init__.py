"""One question each: a command that measures, and the section of the report that shows it."""
