"""Addresses of databases, servers and object stores, and texts that name them: what is secret in
them is filled in from the environment, and leaves the process only as ``***``."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from urllib.parse import quote, urlsplit

from mgstudy.errors import InputError
from mgstudy.files import absolute

PASSWORD_MASK = "***"
RAY_CLIENT_PORT = 10001
"""Of ``ray://HOST``, where none is given."""
_SECRETS = (
    # ``scheme://user:password@``, whose password may itself hold ``:``, ``/`` and ``@``.
    re.compile(r"(?<=://)(?P<before>(?!/)[^:@\s]*:)(?P<secret>\S+)(?=@)"),
    # ``scheme://user:password@``, whose password holds spaces; no ``host:port``.
    re.compile(
        r"(?<=://)(?P<before>(?!/)[^:@\s]*:(?:[ \t]+(?=[^\s@]+@)|(?!\d{1,5}\b)(?=\S)))"
        r"(?P<secret>[^@\n]+)(?=@)"
    ),
    # ``scheme://user:password``, whose host was forgotten; no ``host:port``.
    re.compile(
        r"(?<=://)(?P<before>[^:@/\s\[]+:(?!\d{1,5}\b))(?P<secret>[^@\s/:*$'\"][^@\s/'\"]*)(?!\S*@)"
    ),
    # ``user:password@host`` without ``://`` before it, which was forgotten, too; no ``recall@20``.
    re.compile(
        r"(?<![^\s'\"=(\[])(?P<before>(?:[\w+.-]+:/?|//)??[^\s:@/'\"]+:)(?P<secret>[^\s@/'\"]+)"
        r"(?=@(?:[A-Za-z\[]|\d+\.))"
    ),
    # ``https://token@``. Who logs into a database is no secret: ``postgresql://me@``.
    re.compile(r"(?<![\w+.-])(?P<before>(?!postgres)[\w+.-]+://)(?P<secret>[^:@/?#\s]+)(?=:?@)"),
    # ``?token=``, ``password='...'``, ``"secret": "..."``, whatever stands before such a word in a
    # name.
    re.compile(
        r"(?i:(?P<before>(?:\bsig|\bpwd|passwd|password|passphrase|token|secret|signature"
        r"|(?:api|access|account).?key|(?<=[?&#])(?:key|auth|pass|pw))(?:\s?=\s?|['\"]:\s*)))"
        r"(?P<secret>\*{3}|'[^']*'|\"[^\"]*\"|[^\s&]+)"
    ),
    # ``Authorization: Bearer ...``
    re.compile(r"(?i:(?P<before>\b(?:bearer|basic)\s+))(?P<secret>[\w.~+/-]{16,}=*)"),
)


def sqlite_url(path: Path) -> str:
    """The storage URL of a SQLite file."""
    return f"sqlite:///{path.absolute()}"


def file_url_from_root(url: str | None) -> str | None:
    """The URL of a file as any folder reads it: a study is looked at and gone on with from others
    than the one it was launched in."""
    named = re.fullmatch(r"((?:sqlite|journal)[^/]*:///)([^/$~:][^:]*)", url or "")
    return url if named is None else f"{named[1]}{Path(named[2]).absolute()}"


def redacted(text: str) -> str:
    """The text without the passwords and tokens of the addresses in it; ``${VARIABLE}`` for one
    stays.

    Every text that leaves the process (a message, a record, what another library says) and may
    hold an address goes through here. In doubt it takes out too much.
    """
    return _masked(text, r"\${\w+}")


def first_line(error: BaseException) -> str:
    """The first line of what a failure says, or its kind; without secrets."""
    return redacted(str(error).strip().partition("\n")[0]) or type(error).__name__


def recorded_url(url: str) -> str:
    """The URL as it may be kept: a secret stays only as the name of an environment variable."""
    return _masked(_without_spaces(url), r"\$(\w+|{\w+})")


def expand_url(url: str) -> str:
    """Fill in environment variables, so that a study file can name ``${DATABASE_PASSWORD}``
    instead of holding it.

    Raises:
        InputError: If such a variable is not set.
    """
    if any(found["secret"] == PASSWORD_MASK for form in _SECRETS for found in form.finditer(url)):
        raise InputError(
            f"the password of {redacted(url)} is not kept with the study; write it as "
            "${VARIABLE} in the study file, and launch again"
        )
    expanded = os.path.expandvars(url)
    unset = re.search(r"\$\{\w+\}", expanded)
    if unset is not None:
        shown = redacted(_without_spaces(url))
        raise InputError(f"{shown}: the environment variable {unset[0]} is not set")
    return _without_spaces(expanded)


def ray_token_file() -> Path:
    """Where the token of Ray's token authentication lies that the environment does not hold.

    Raises:
        InputError: If nobody's home is known.
    """
    return absolute(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token")


def reach_ray(address: str, seconds: float) -> None:
    """See that something listens at an address of Ray's: it would try for minutes itself. One that
    names no port, such as ``auto``, is left to it.

    Args:
        address: As ``RAY_ADDRESS`` has it.
        seconds: How long it may take to answer.

    Raises:
        ValueError: If it names no host where it has to, or its port is none.
        OSError: If nothing listens there.
    """
    there = urlsplit(address if "://" in address else f"//{address}")
    port = there.port or (RAY_CLIENT_PORT if there.scheme == "ray" else None)
    if there.hostname and port:
        socket.create_connection((there.hostname, port), seconds).close()
    elif there.scheme == "ray":
        raise ValueError("it names no host")


def _without_spaces(url: str) -> str:
    """The URL as it has to be written: where it ends in a text is where a space is. What names a
    file keeps them."""
    if re.match(r"(sqlite|journal|file)\b", url):
        return url
    return re.sub(r"\s", lambda space: quote(space[0]), url)


def _masked(text: str, names: str) -> str:
    """The text without secrets, but those that are no more than such a name."""

    def mask(found: re.Match[str]) -> str:
        named = re.fullmatch(names, found["secret"])
        return found[0] if named else f"{found['before']}{PASSWORD_MASK}"

    for form in _SECRETS:
        text = form.sub(mask, text)
    return text
