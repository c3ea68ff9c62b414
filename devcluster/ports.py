"""Finds ports to listen on, so that clusters and servers can run side by side."""

import random
import socket

from devcluster.errors import DevclusterError


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nothing listens on, below the range from which the kernel gives outgoing connections theirs."""
    free: list[int] = []
    for port in random.sample(range(15_000, 32_000), 500):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        free.append(port)
        if len(free) == count:
            return free
    raise DevclusterError("no free ports between 15000 and 32000 on 127.0.0.1: stop what listens there")
