"""The ports tests are given are theirs."""

from __future__ import annotations

import socket

import pytest

from ports import four_free_ports, free_port


def test_a_port_is_given_once_from_a_block_that_other_processes_see_is_taken() -> None:
    """No number comes twice, and the first port of each block is held."""
    given = [free_port() for _ in range(120)]
    assert len(set(given)) == len(given)
    for start in {port - port % 100 for port in given}:
        with socket.socket() as another, pytest.raises(OSError, match="in use"):
            another.bind(("127.0.0.1", start))


def test_four_in_a_row_are_free() -> None:
    """All four can be bound, and a single port that is given later is none of them."""
    first = four_free_ports()
    for port in range(first, first + 4):
        with socket.socket() as server:
            server.bind(("127.0.0.1", port))
    assert not {free_port() for _ in range(120)} & set(range(first, first + 4))
