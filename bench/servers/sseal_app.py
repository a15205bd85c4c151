"""sseal: on its own uvicorn protocol, on uvicorn's, with TLS; ``app`` is what granian runs."""

from __future__ import annotations

import os

from common import arguments, serve

from sseal.hub import Hub
from sseal.hub_settings import HubSettings
from sseal.limits import Limits
from sseal.server.gc_tuning import tune_gc


def hub(*, coalesce: bool = True) -> Hub:
    """Return a hub with default settings, but for limits that one load generator would run into."""
    limits = Limits(
        streams_per_address=0,
        connects_per_minute_per_address=0,
        connects_per_minute_per_subject=0,
        tickets_per_minute_per_subject=0,
        publishes_per_minute_per_subject=0,
    )
    # Tickets are minted before the connects are timed, so they have to live longer than 30 s.
    settings = HubSettings(jwt_secret=(os.environ["BENCH_SECRET"],), ticket_ttl=600.0, limits=limits, coalesce=coalesce)
    return Hub(settings)


app = hub().asgi


def main() -> None:
    """Run on uvicorn."""
    parser = arguments()
    parser.add_argument("--http", default="sseal.server.uvicorn:StreamProtocol")
    parser.add_argument("--no-coalesce", action="store_true")
    parser.add_argument("--cert")
    parser.add_argument("--key")
    given = parser.parse_args()
    tune_gc()  # as `sseal serve` does
    chosen = hub(coalesce=False).asgi if given.no_coalesce else app
    serve(chosen, given.port, http=given.http, ssl_certfile=given.cert, ssl_keyfile=given.key)


if __name__ == "__main__":
    main()
