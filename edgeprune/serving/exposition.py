"""What a session counts in Prometheus' text format, and an endpoint on this machine that tells it.

https://prometheus.io/docs/instrumenting/exposition_formats/, version 0.0.4.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from edgeprune.errors import InputError
from edgeprune.serving.sampler import Sample
from edgeprune.serving.session import BUCKETS_MS, AdaptiveRunner

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MS = 1e-3


def exposition(session: AdaptiveRunner, sample: Sample | None = None) -> str:
    """All metrics of a session now, and of the machine where it is read."""
    return "".join(f"{line}\n" for line in _lines(session, sample))


def _lines(session: AdaptiveRunner, sample: Sample | None) -> Iterator[str]:
    now = session.statistics
    yield from _metric("requests_total", "counter", "Requests that were answered.", _by_precision(now.served))
    yield from _metric("missed_total", "counter", "Answers later than the deadline.", {"": now.missed})
    yield from _metric("errors_total", "counter", "Requests that no variant answered.", {"": now.errors})
    yield from _metric("changes_total", "counter", "Changes of precision.", {"": now.changes})
    yield from _metric("failures_total", "counter", "Variants and policies that failed.", {"": len(session.failures)})
    active = {rung.precision: int(rung.precision == now.current) for rung in session.rungs}
    yield from _metric("precision_active", "gauge", "1 for the precision that serves.", _by_precision(active))
    yield from _metric("queue_length", "gauge", "Requests that wait.", {"": now.waiting})
    yield from _metric("deadline_seconds", "gauge", "From arrival to answer.", {"": MS * session.deadline_ms})
    yield from _metric(
        "resident_bytes", "gauge", "Memory of the variants that are loaded.", _by_precision(now.resident_bytes)
    )
    yield from _histogram(now.latency_ms, now.latency_sum_ms)
    if sample is not None:
        read = {
            "cpu_utilization_ratio": sample.condition.cpu,
            "gpu_utilization_ratio": sample.condition.gpu,
            "memory_headroom_bytes": sample.condition.headroom_bytes,
            "temperature_celsius": sample.condition.temperature_c,
            "throttled": int(sample.condition.throttled),
            "power_watts": sample.watts,
        }
        for name, value in read.items():
            if value is not None:
                yield from _metric(name, "gauge", "Of this machine.", {"": value})


def _metric(name: str, kind: str, text: str, values: Mapping[str, float]) -> Iterator[str]:
    yield f"# HELP edgeprune_{name} {text}"
    yield f"# TYPE edgeprune_{name} {kind}"
    for label, value in values.items():
        yield f"edgeprune_{name}{label} {value!r}"


def _by_precision(values: Mapping[str, int]) -> dict[str, int]:
    return {f'{{precision="{name}"}}': value for name, value in values.items()}


def _histogram(counts: tuple[int, ...], sum_ms: float) -> Iterator[str]:
    below, buckets = 0, {}
    for end_ms, count in zip((*BUCKETS_MS, None), counts, strict=True):
        below += count
        buckets[f'_bucket{{le="{"+Inf" if end_ms is None else f"{MS * end_ms:g}"}"}}'] = below
    yield from _metric(
        "latency_seconds",
        "histogram",
        "From arrival to answer.",
        {**buckets, "_sum": MS * sum_ms, "_count": below},
    )


class Endpoint:
    """`with Endpoint(session, port)`: answers GET /metrics on the loopback address; port 0 takes a free one."""

    def __init__(self, session: AdaptiveRunner, port: int) -> None:
        """Raises InputError where the port is taken."""

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path != "/metrics":
                    self.send_error(404)
                    return
                body = exposition(session, session.sample).encode()
                self.send_response(200)
                self.send_header("Content-Type", CONTENT_TYPE)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        except OSError as error:
            raise InputError(f"port {port}: {error.strerror}: choose another") from error
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="edgeprune-metrics", daemon=True)

    def __enter__(self) -> Endpoint:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
