"""Listening for participants until somebody stops it."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from ssl_colorize.errors import UserError

if TYPE_CHECKING:
    from starlette.applications import Starlette


def check_installed() -> None:
    """Say what to install, before any photo is prepared.

    Raises:
        UserError: the server's packages are not installed.
    """
    from importlib.util import find_spec

    if any(find_spec(package) is None for package in ("starlette", "uvicorn")):
        raise UserError("`ssl-colorize study serve` needs a web server: pip install 'ssl-colorize[study]'.")


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections; they wait until `serve` answers them.

    Args:
        port: 0 takes a free one.

    Raises:
        UserError: the address is not this machine's, or the port is taken.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        # A server that was stopped a moment ago may start again at once.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"Cannot listen at {host} port {port}: {reason}. Choose others with --host, --port.") from None
    return listener


def address_of(listener: socket.socket, host: str) -> str:
    """The address to open in a browser."""
    port = listener.getsockname()[1]
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def serve(app: Starlette, listener: socket.socket) -> None:
    """Answer requests until SIGINT (returns) or SIGTERM (ends the process). Who asked is not logged."""
    import uvicorn

    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, lifespan="off", ws="none",
        timeout_graceful_shutdown=2,
    )  # fmt: skip
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        pass
    finally:
        listener.close()
