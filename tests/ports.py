"""Ports for servers that are started as processes of their own."""

import socket
import sys


def hold_port() -> tuple[int, socket.socket]:
    """A free port of 127.0.0.1, and what keeps it from being given to anybody else: close that when the server listens.

    A server takes seconds to start, and in the meantime the tests beside these, or their connections, could get the port. On
    Linux it stays bound, and whoever allows that, as servers do (SO_REUSEADDR), may listen there all the same.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    port = held.getsockname()[1]
    if sys.platform != "linux":
        held.close()
    return port, held
