"""What a check found, how bad it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

MARK = "mgstudy-findings: "
"""Begins the line in which a check on a cluster prints its findings as JSON."""


class Level(StrEnum):
    """How bad a finding is."""

    FINE = "fine"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """One thing that was checked.

    Attributes:
        level: How bad it is.
        subject: What was checked, for example ``"storage"``.
        text: What was found.
        advice: What to do; empty when nothing is to be done.
    """

    level: Level
    subject: str
    text: str
    advice: str = ""

    @property
    def line(self) -> str:
        """The finding in one line."""
        return f"{self.subject}: {self.text}" + (f"; {self.advice}" if self.advice else "")

    def content(self) -> dict[str, Any]:
        """The finding as JSON-like data."""
        return {**asdict(self), "level": self.level.value}

    @classmethod
    def from_content(cls, content: dict[str, Any]) -> Finding:
        """The finding that ``content`` describes."""
        return cls(**{**content, "level": Level(content["level"])})


def fine(subject: str, text: str) -> Finding:
    """A finding that asks for nothing."""
    return Finding(Level.FINE, subject, text)


def warning(subject: str, text: str, advice: str) -> Finding:
    """A finding that may do harm later."""
    return Finding(Level.WARNING, subject, text, advice)


def problem(subject: str, text: str, advice: str) -> Finding:
    """A finding that stops a study."""
    return Finding(Level.PROBLEM, subject, text, advice)


def problems(findings: Iterable[Finding]) -> list[Finding]:
    """The findings that stop a study."""
    return [finding for finding in findings if finding.level is Level.PROBLEM]
