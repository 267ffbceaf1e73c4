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
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from mgstudy.errors import InputError, MgstudyError
from mgstudy.files import content_of
from mgstudy.urls import first_line, ray_token_file, reach_ray

_ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
_THIS_MACHINE = "http://127.0.0.1:8265"
_TIMEOUT_SECONDS = 10
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
        asks_for_token: Whether it lets nobody in without a token.
        headers: What lets us in.
    """

    address: str
    client: Any
    asks_for_token: bool
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def ask(self, request: str, *arguments: str) -> Any:
        """What Ray's client answers to a request, for example ``get_job_logs``.

        Raises:
            MgstudyError: If the cluster does not answer, or cannot.
        """
        try:
            return getattr(self.client, request)(*arguments)
        except (RuntimeError, OSError) as error:
            raise MgstudyError(f"the cluster does not answer: {first_line(error)}") from error

    def nodes(self) -> list[dict[str, float]]:
        """What each living node has in all, as ``ray.nodes()`` names it: ``CPU``, ``GPU``, ...

        Raises:
            MgstudyError: If the cluster does not answer.
        """
        from ray.util.state import StateApiClient  # noqa: PLC0415
        from ray.util.state.common import ListApiOptions, StateResource  # noqa: PLC0415
        from ray.util.state.exception import RayStateApiException  # noqa: PLC0415

        options = ListApiOptions(timeout=_TIMEOUT_SECONDS)
        try:
            with _without_addresses():
                asking = StateApiClient(self.address, headers=dict(self.headers))
                found = asking.list(StateResource.NODES, options, raise_on_missing_output=False)
        except (RayStateApiException, RuntimeError, OSError) as error:
            raise MgstudyError(
                f"{self.address} does not say what nodes it has: {first_line(error)}"
            ) from error
        return [dict(node.resources_total) for node in found if node.state == "ALIVE"]

    @property
    def warning(self) -> str | None:
        """What a person should know before sending anything there."""
        if self.asks_for_token or is_loopback(urlsplit(self.address).hostname or ""):
            return None
        return (
            f"{self.address} asks for no token: whoever reaches it can run any code there; "
            "`ray get-auth-token --generate` on the head and a restart turn tokens on"
        )


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
    in_environment = filter(None, map(os.environ.get, _ADDRESS_VARIABLES))
    url = _dashboard_url(address or next(in_environment, _THIS_MACHINE))
    headers = {}
    asks = asks_for_token(url)
    if asks:
        token = find_token()
        if token is None:
            raise InputError(
                f"{url} asks for a token and there is none here; {_HOW_TO_GIVE_A_TOKEN}"
            )
        headers["Authorization"] = f"Bearer {token}"
    return Cluster(url, _client(url, headers), asks, headers)


def find_token() -> str | None:
    """The token of Ray's token authentication, from the places where Ray looks, in its order.

    Raises:
        MgstudyError: If there is a file of it that cannot be read.
    """
    if given := os.environ.get("RAY_AUTH_TOKEN"):
        return given.strip()
    try:
        path = ray_token_file()
    except InputError:  # Without a home there is none.
        return None
    return (content_of(path) or b"").decode("utf-8", "replace").strip() or None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host or an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def asks_for_token(url: str, seconds: float = _TIMEOUT_SECONDS) -> bool:
    """Whether a Ray dashboard answers only who shows a token.

    Args:
        url: Where it is expected.
        seconds: How long it may take to answer.

    Raises:
        MgstudyError: If no Ray dashboard answers there.
    """
    try:
        with urllib.request.urlopen(f"{url}/api/version", timeout=seconds) as answer:
            if b"ray_version" in answer.read(1000):
                return False
        said = "something"
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return True
        said = f"{error.code} {error.reason}"
    except (HTTPException, OSError, ValueError) as error:
        reason = " ".join(str(getattr(error, "reason", error)).split())
        raise MgstudyError(
            f"no cluster answers at {url}: {reason}; start one (`ray start --head`, "
            "`ray up cluster.yaml`), or give its address with --address or RAY_ADDRESS"
        ) from error
    raise MgstudyError(
        f"{url} answers {said}, which Ray's dashboard does not; is it the right address?"
    )


def _dashboard_url(address: str) -> str:
    if address.startswith(("http://", "https://")):
        with suppress(ValueError):
            if urlsplit(address).hostname and urlsplit(address).port != 0:
                return address.rstrip("/")
        raise InputError(f"{address!r} names no host, or no port; write http://HEAD:8265")
    if "://" not in address and ":" in address:
        # Either port may be meant: the dashboard's, or Ray's own, which does not speak HTTP.
        with suppress(MgstudyError):
            asks_for_token(f"http://{address}")
            return f"http://{address}"
    try:
        reach_ray(address, _TIMEOUT_SECONDS)
    except (OSError, ValueError) as error:
        raise MgstudyError(
            f"no cluster answers at {address!r}: {first_line(error)}; write http://HEAD:8265"
        ) from error
    from mgstudy.private.ray import use_token_that_is_here  # noqa: PLC0415

    use_token_that_is_here()
    return str(_client(address).get_address())


def _client(address: str, headers: dict[str, str] | None = None) -> Any:
    from ray.exceptions import AuthenticationError, RayError  # noqa: PLC0415
    from ray.job_submission import JobSubmissionClient  # noqa: PLC0415

    for kind in JobSubmissionClient.__mro__[:-1]:  # They would tell of every request.
        logging.getLogger(kind.__module__).setLevel(logging.ERROR)
    try:
        with _without_addresses():
            return JobSubmissionClient(address, headers=headers)
    except AuthenticationError as error:
        raise InputError(
            f"{address} does not accept the token that is here; {_HOW_TO_GIVE_A_TOKEN}"
        ) from error
    except (RayError, RuntimeError, ValueError, OSError) as error:
        raise MgstudyError(
            f"no cluster answers at {address!r}: {first_line(error)}; write http://HEAD:8265"
        ) from error


@contextmanager
def _without_addresses() -> Iterator[None]:
    """Ray would let the environment win over the address that was asked for."""
    kept = {name: os.environ.pop(name) for name in _ADDRESS_VARIABLES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)
