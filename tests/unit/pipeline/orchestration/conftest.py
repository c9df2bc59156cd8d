"""Airflow is imported in a home of its own; alerts go to a web server on loopback."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.helpers import airflow_home  # noqa: F401 (before Airflow is imported)


@pytest.fixture
def posted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """The alerts that a web server on loopback has received."""
    received: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    monkeypatch.setenv("DEBCM_ALERTS__WEBHOOK", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("DEBCM_ALERTS__UI_URL", "https://airflow.example.org")
    yield received
    server.shutdown()
    thread.join(10)
    server.server_close()
