"""Redis or Valkey: the connections that a broker and a store of one process share."""

from __future__ import annotations

from .errors import Lost
from .link import Link, User
from .script import Script
from .server import Server

__all__ = ["Link", "Lost", "Script", "Server", "User"]
