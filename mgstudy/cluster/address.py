"""Find a cluster's job server and be let in."""

from __future__ import annotations

import ipaddress
import logging
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mgstudy.errors import InputError, MgstudyError
from mgstudy.urls import first_line

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
_API_SERVER = "RAY_API_SERVER_ADDRESS"
_RAY_ADDRESS = "RAY_ADDRESS"
_DASHBOARD_PORT = 8265
_TIMEOUT_SECONDS = 10
_CHATTY_LOGGERS = (
    "ray._private.runtime_env.packaging",
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
)
_HOW_TO_GIVE_A_TOKEN = (
    "put the cluster's token (`ray get-auth-token` on its head prints it) into ~/.ray/auth_token "
    "or RAY_AUTH_TOKEN"
)


@dataclass(frozen=True)
class Cluster:
    """A cluster that answers.

    Attributes:
        address: URL of its dashboard, where the job server listens.
        client: Ray's ``JobSubmissionClient``.
        ray_version: The version it runs.
        asks_for_token: Whether it lets nobody in without a token.
        headers: What lets us in.
    """

    address: str
    client: Any
    ray_version: str
    asks_for_token: bool
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def nodes(self) -> list[dict[str, float]]:
        """What each living node has in all, as ``ray.nodes()`` names it: ``CPU``, ``GPU``, ...

        Raises:
            MgstudyError: If the cluster does not answer.
        """
        from ray.util.state import StateApiClient  # noqa: PLC0415
        from ray.util.state.common import ListApiOptions, StateResource  # noqa: PLC0415
        from ray.util.state.exception import RayStateApiException  # noqa: PLC0415

        try:
            with _without_addresses():
                asking = StateApiClient(self.address, headers=dict(self.headers))
                found = asking.list(
                    StateResource.NODES,
                    ListApiOptions(timeout=_TIMEOUT_SECONDS),
                    raise_on_missing_output=False,
                )
        except (RayStateApiException, RuntimeError, OSError) as error:
            raise MgstudyError(
                f"{self.address} does not say what nodes it has: {first_line(error)}"
            ) from error
        return [dict(node.resources_total) for node in found if node.state == "ALIVE"]

    @property
    def warnings(self) -> list[str]:
        """What a person should know before sending anything there."""
        if self.asks_for_token or is_loopback(self.address):
            return []
        return [
            f"{self.address} asks for no token: whoever reaches it can run any code there; "
            "`ray get-auth-token --generate` on the head and a restart turn tokens on"
        ]


def connect(address: str | None = None) -> Cluster:
    """Connect to the job server of a cluster.

    Args:
        address: ``http://HEAD:8265``, or an address as ``ray.init`` takes it. When not given:
            ``RAY_API_SERVER_ADDRESS``, else ``RAY_ADDRESS``, else this machine.

    Raises:
        InputError: If the address cannot be one, or its cluster asks for a token and there is
            none, or another one.
        MgstudyError: If nothing answers there.
    """
    from ray.exceptions import AuthenticationError  # noqa: PLC0415
    from ray.job_submission import JobSubmissionClient  # noqa: PLC0415

    for name in _CHATTY_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    url = _dashboard_url(
        address or os.environ.get(_API_SERVER) or os.environ.get(_RAY_ADDRESS) or DEFAULT_ADDRESS
    )
    asks = _asks_for_token(url)
    headers = {}
    if asks:
        token = find_token()
        if token is None:
            raise InputError(
                f"{url} asks for a token and there is none here; {_HOW_TO_GIVE_A_TOKEN}"
            )
        headers["Authorization"] = f"Bearer {token}"
    try:
        # Ray would let the environment win over the address that was asked for.
        with _without_addresses():
            client = JobSubmissionClient(url, headers=headers)
    except AuthenticationError as error:
        raise InputError(
            f"{url} does not accept the token that is here; {_HOW_TO_GIVE_A_TOKEN}"
        ) from error
    except (ConnectionError, RuntimeError, OSError) as error:
        raise MgstudyError(f"{url}: {first_line(error)}") from error
    return Cluster(url, client, str(client._server_ray_version), asks, headers)


def find_token() -> str | None:
    """The token of Ray's token authentication, from the places where Ray looks, in its order."""
    if given := os.environ.get("RAY_AUTH_TOKEN"):
        return given.strip()
    if path := os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return _read_token(Path(path))
    return _read_token(Path.home() / ".ray" / "auth_token")


def is_loopback(url: str) -> bool:
    """Whether only this machine can reach the host of ``url``."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read_token(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def _dashboard_url(address: str) -> str:
    if address.startswith(("http://", "https://")):
        if not urlsplit(address).hostname:
            raise InputError(f"{address!r} names no host; write http://HEAD:{_DASHBOARD_PORT}")
        return address.rstrip("/")
    if "://" not in address and ":" in address:
        # Either port may be meant: the dashboard's, or Ray's own, which does not speak HTTP.
        with suppress(MgstudyError):
            _asks_for_token(f"http://{address}")
            return f"http://{address}"
    return _ask_ray(address)


def _ask_ray(address: str) -> str:
    """The dashboard of the cluster that ``ray.init(address)`` would connect to."""
    from ray.dashboard.utils import get_address_for_submission_client  # noqa: PLC0415
    from ray.exceptions import RayError  # noqa: PLC0415

    from mgstudy.private.ray import use_token_that_is_here  # noqa: PLC0415

    use_token_that_is_here()
    try:
        with _without_addresses():
            return str(get_address_for_submission_client(address))
    except (RayError, RuntimeError, ValueError, OSError) as error:
        raise MgstudyError(
            f"no cluster answers at {address!r}: {first_line(error)}; "
            f"write http://HEAD:{_DASHBOARD_PORT}"
        ) from error


def _asks_for_token(url: str) -> bool:
    """Whether the job server refuses a request without a token."""
    try:
        with urllib.request.urlopen(f"{url}/api/version", timeout=_TIMEOUT_SECONDS):
            return False
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return True
        raise MgstudyError(
            f"{url} answers {error.code} {error.reason}, which Ray's dashboard does not; "
            "is it the right address?"
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise MgstudyError(
            f"no cluster answers at {url}: {reason}; start one (`ray start --head`, "
            "`ray up cluster.yaml`), or give its address with --address or RAY_ADDRESS"
        ) from error


@contextmanager
def _without_addresses() -> Iterator[None]:
    kept = {
        name: os.environ.pop(name) for name in (_API_SERVER, _RAY_ADDRESS) if name in os.environ
    }
    try:
        yield
    finally:
        os.environ.update(kept)
