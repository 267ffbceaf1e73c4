"""How much is made of what comes from outside, so that nothing runs for hours or fills the memory.

Each limit has a name, which the refusal says; an environment variable of the name sets another.
"""

from __future__ import annotations

import os

from mgstudy.errors import InputError

LIMITS = {
    # Of a YAML text: its length, the levels of its nesting, and its values, counted again wherever
    # an alias repeats them.
    "MGSTUDY_YAML_BYTES": 100_000,
    "MGSTUDY_YAML_DEPTH": 100,
    "MGSTUDY_YAML_VALUES": 100_000,
    # Of raw data: the length of a line, and of one that is a Python literal, which takes five
    # hundred times its memory to read; the levels of a record's nesting; how many bytes, where they
    # are more than 64 MiB, come of each of a compressed or Parquet file; how many ids, for each
    # that occurs, its numbers span.
    "MGSTUDY_LINE_BYTES": 16 << 20,
    "MGSTUDY_LITERAL_BYTES": 1 << 20,
    "MGSTUDY_RECORD_DEPTH": 100,
    "MGSTUDY_BYTES_PER_BYTE": 100,
    "MGSTUDY_IDS_PER_ID": 100,
    # Of a table of features: its bytes, which follow from how many categories or columns there are.
    "MGSTUDY_TABLE_BYTES": 16 << 30,
    # Of a model: the largest of its whole numbers, such as columns, layers and neighbours.
    "MGSTUDY_MODEL_SIZE": 4096,
    # Of a language model: the bytes of its files, which lie in memory in every trial's process.
    "MGSTUDY_LANGUAGE_MODEL_BYTES": 16 << 30,
}


def limit(name: str) -> int:
    """How much of what a name in ``LIMITS`` stands for is read.

    Raises:
        InputError: If the environment variable of the name is no number.
    """
    return set_number(name, LIMITS[name])


def set_number(name: str, default: int) -> int:
    """A whole number that an environment variable sets.

    Raises:
        InputError: If it is set to something else.
    """
    given = os.environ.get(name) or str(default)
    if not given.isdecimal():
        raise InputError(f"${name}: expected a whole number, got {given!r}")
    return int(given)


def more_than(name: str, what: str) -> str:
    """What is wrong with more of something than a limit allows, and how to raise it."""
    return f"more than {limit(name):,} {what}; set ${name} to allow more"
