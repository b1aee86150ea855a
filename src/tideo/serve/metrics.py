"""What Prometheus reads at /metrics: counts and times, and nothing of what was asked."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class Metrics:
    """The server's counters, in a registry of their own: two servers in one process do not share them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "tideo_requests",
            "Chat requests by model and HTTP status.",
            ["model", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "tideo_request_seconds",
            "From the request's body to its reply.",
            ["model"],
            registry=self.registry,
        )
        self._under_way = Gauge(
            "tideo_requests_under_way",
            "Requests waiting and being answered.",
            ["model"],
            registry=self.registry,
        )
        self._cached = Gauge("tideo_cached_frames_bytes", "Decoded frames kept.", registry=self.registry)

    def done(self, *, model: str, status: int, seconds: float) -> None:
        self.requests.labels(model, str(status)).inc()
        self.seconds.labels(model).observe(seconds)

    def watch(self, model: str, num_requests: Callable[[], int]) -> None:
        self._under_way.labels(model).set_function(num_requests)

    def watch_cache(self, num_bytes: Callable[[], int]) -> None:
        self._cached.set_function(num_bytes)

    def text(self) -> bytes:
        return generate_latest(self.registry)
