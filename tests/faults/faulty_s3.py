"""Starts an S3 server on loopback that injects faults on request."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

REGION = "us-east-1"
BUCKET = "lake"
# Status line and S3 error code per fault. A request that hangs is answered after the client's
# timeout.
ANSWERS = {
    "broken": ("500 Internal Server Error", "InternalError"),
    "throttled": ("503 Slow Down", "SlowDown"),
    "denied": ("403 Forbidden", "AccessDenied"),
    "hangs": ("500 Internal Server Error", "InternalError"),
}
HANG_SECONDS = 5.0


class FaultyS3:
    """Passes requests on to an S3 server, or fails them as set by `fail`.

    Attributes:
        endpoint: URL of the server.
        injected: requests that were made to fail.
    """

    def __init__(self, behind: Any) -> None:
        self.endpoint = ""
        self.injected = 0
        self._behind = behind
        self._fault = ""
        self._every = 1
        self._requests = 0
        self._lock = threading.Lock()

    def fail(self, fault: str, every: int = 1) -> None:
        """Fail every n-th request from now on.

        Args:
            fault: a key of ANSWERS, or "" for no fault.
            every: n.
        """
        self._fault, self._every = fault, every

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with self._lock:
            self._requests += 1
            fault = "" if self._requests % self._every else self._fault
            self.injected += bool(fault)
        if not fault:
            return self._behind(environ, start_response)
        if fault == "hangs":
            time.sleep(HANG_SECONDS)
        status, code = ANSWERS[fault]
        start_response(status, [("Content-Type", "application/xml"), ("Connection", "close")])
        return [f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()]


@contextmanager
def faulty_s3() -> Iterator[FaultyS3]:
    """Start a server with one empty bucket; credentials must be in the environment."""
    import boto3
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from moto.s3.models import s3_backends
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, *_: Any) -> None:
            """Log nothing: faults are counted."""

    faulty = FaultyS3(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, faulty, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    faulty.endpoint = f"http://127.0.0.1:{server.port}"
    boto3.client("s3", endpoint_url=faulty.endpoint, region_name=REGION).create_bucket(
        Bucket=BUCKET
    )
    try:
        yield faulty
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        s3_backends.reset()
