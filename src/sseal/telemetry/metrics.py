"""Prometheus metrics, read from the engine's counters at scrape time; no counter is kept twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from ..delivery.node import Node
from ..stream.states import State

__all__ = ["exporter"]


class _NodeCollector(Collector):
    def __init__(self, node: Node) -> None:
        self._node = node

    def collect(self) -> Iterator[Metric]:
        """Yield one family per number."""
        node, stats = self._node, self._node.stats
        streams = GaugeMetricFamily("sseal_streams", "Open streams", labels=["state"])
        live = sum(c.state is State.LIVE for c in node.connections.values())
        streams.add_metric(["live"], live)
        streams.add_metric(["catching_up"], len(node.connections) - live)
        yield streams
        yield GaugeMetricFamily("sseal_topics", "Topics and patterns with readers", value=node.topic_count)
        yield GaugeMetricFamily("sseal_position", "Offset at the head", value=node.position.offset)
        yield GaugeMetricFamily("sseal_revocations", "Revocations in force", value=len(node.revocations))
        for name, text, value in (
            ("sseal_events_published", "Events taken from the log", stats.published),
            ("sseal_events_delivered", "Events written to streams", stats.delivered),
            ("sseal_writes", "Writes to streams; fewer than events when frames are joined", stats.writes),
            ("sseal_gaps", "Gaps announced", stats.gaps),
            ("sseal_history_reads", "Pages read from the broker", stats.history_reads),
        ):
            yield CounterMetricFamily(name, text, value=value)
        for name, text, label, values in (
            ("sseal_connects", "Streams opened", "auth_method", stats.connects),
            ("sseal_refusals", "Requests refused", "code", stats.refused),
            ("sseal_closes", "Streams ended", "reason", stats.closed),
            ("sseal_connections_closed", "Connections closed that were no streams", "reason", stats.connections_closed),
            ("sseal_audit_events", "Security events", "event", node.audit.counts),
            ("sseal_credentials_refused", "Credentials refused", "reason", node.audit.refused),
        ):
            family = CounterMetricFamily(name, text, labels=[label])
            for key, value in values.items():
                family.add_metric([key], value)
            yield family


def exporter(node: Node) -> Callable[[], tuple[bytes, str]]:
    """Return a function that renders the metrics of one engine: body and media type."""
    registry = CollectorRegistry()
    registry.register(_NodeCollector(node))
    return lambda: (generate_latest(registry), CONTENT_TYPE_LATEST)
