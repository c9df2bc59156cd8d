"""Alerts against a real web server and a real mail server on loopback."""

from __future__ import annotations

import email
import email.policy
import http.server
import json
import logging
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pipeline.orchestration import alerts
from pipeline.orchestration.alerts import Alert, send
from pipeline.settings.sections import AlertSettings

ALERT = Alert(
    title="media_features.ingest failed",
    day="2026-03-01",
    what="TooManyRejectsError: 3 of 10 rows rejected, missing größte Datei (day 2026-03-01)",
    where="http://127.0.0.1:8080/dags/media_features/runs/x",
    next_step="Fix the delivery.",
)


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_address[1]  # type: ignore[index]
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


@contextmanager
def webhook(answer: bytes = b"HTTP/1.0 204 No Content\r\n\r\n") -> Iterator[tuple[str, list[Any]]]:
    """A web server that records what is posted and sends `answer` as it is."""
    posted: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.headers["Content-Type"] == "application/json"
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    with serving(http.server.HTTPServer(("127.0.0.1", 0), Handler)) as port:
        yield f"http://127.0.0.1:{port}/hook", posted


@contextmanager
def mail_server() -> Iterator[tuple[int, list[tuple[list[str], bytes]]]]:
    """A minimal SMTP server that records recipients and messages."""
    kept: list[tuple[list[str], bytes]] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            recipients: list[str] = []
            self.wfile.write(b"220 ready\r\n")
            while line := self.rfile.readline().decode().strip():
                verb = line[:4].upper()
                if verb == "RCPT" and "<gone@" in line:
                    self.wfile.write(b"550 no such user\r\n")
                    continue
                if verb == "RCPT":
                    recipients.append(line.partition("<")[2].partition(">")[0])
                if verb == "DATA":
                    self.wfile.write(b"354 go on\r\n")
                    lines = iter(self.rfile.readline, b".\r\n")
                    kept.append((recipients, b"".join(lines)))
                self.wfile.write(b"221 bye\r\n" if verb == "QUIT" else b"250 ok\r\n")

    with serving(socketserver.TCPServer(("127.0.0.1", 0), Handler)) as port:
        yield port, kept


def test_the_webhook_gets_text_and_fields() -> None:
    with webhook() as (url, posted):
        send(AlertSettings(webhook=url), ALERT)
    (body,) = posted
    assert {name: body[name] for name in ("title", "day", "what", "where", "next_step")} == {
        "title": ALERT.title,
        "day": ALERT.day,
        "what": ALERT.what,
        "where": ALERT.where,
        "next_step": ALERT.next_step,
    }
    for part in (ALERT.title, ALERT.day, ALERT.what, ALERT.where, ALERT.next_step):
        assert part in body["text"]


def test_an_email_has_every_field_of_the_alert() -> None:
    with mail_server() as (port, kept):
        settings = AlertSettings(
            email_to=["night@example.org", "day@example.org"],
            email_from="debcm@example.org",
            smtp_host="127.0.0.1",
            smtp_port=port,
        )
        send(settings, ALERT)
    ((recipients, data),) = kept
    assert recipients == ["night@example.org", "day@example.org"]
    message = email.message_from_bytes(data, policy=email.policy.default)
    assert message["Subject"] == "[debcm] media_features.ingest failed 2026-03-01"
    assert message["From"] == "debcm@example.org"
    text = message.get_content().replace("\r\n", "\n")
    for part in (ALERT.what, f"Look: {ALERT.where}", f"Next: {ALERT.next_step}"):
        assert part in text


def test_a_title_cannot_add_email_headers() -> None:
    hostile = Alert("x\r\nBcc: all@example.org", "\n", "", "", "")
    assert hostile.subject == "x Bcc: all@example.org"


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.0 500 Broken\r\n\r\n", b"no HTTP at all\r\n\r\n", b""],
    ids=["error", "nonsense", "hangs up"],
)
def test_a_failing_channel_is_logged_and_the_other_one_is_used(
    answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with webhook(answer) as (url, posted), mail_server() as (port, kept):
        settings = AlertSettings(
            webhook=url, email_to=["night@example.org"], smtp_host="127.0.0.1", smtp_port=port
        )
        send(settings, ALERT)
    assert len(posted) == len(kept) == 1
    assert "not delivered to the webhook" in caplog.text


@pytest.mark.parametrize(
    "url", ["http://größe.example.org/", "http://[/x", "http://127.0.0.1:x/", "http://a b/", "x"]
)
def test_a_url_that_urllib_rejects_does_not_stop_the_mail(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Fault 7: settings refuse these URLs, but could come from elsewhere."""
    with mail_server() as (port, kept):
        settings = AlertSettings(
            email_to=["night@example.org"], smtp_host="127.0.0.1", smtp_port=port
        ).model_copy(update={"webhook": url})
        send(settings, ALERT)
    assert len(kept) == 1
    assert "not delivered to the webhook" in caplog.text


@pytest.mark.parametrize("channel", ["_post", "_mail"])
def test_any_error_of_a_channel_is_logged_and_the_other_one_is_used(
    channel: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sent = []

    def fail(*_: object) -> None:
        raise KeyError("no such thing")

    for name in ("_post", "_mail"):
        monkeypatch.setattr(alerts, name, fail if name == channel else lambda *_: sent.append(1))
    send(AlertSettings(webhook="http://a", email_to=["night@example.org"]), ALERT)
    assert sent == [1]
    assert "no such thing" in caplog.text


def test_an_address_that_the_mail_server_refuses_is_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with mail_server() as (port, kept):
        settings = AlertSettings(
            email_to=["night@example.org", "gone@example.org"],
            smtp_host="127.0.0.1",
            smtp_port=port,
        )
        send(settings, ALERT)
    assert kept[0][0] == ["night@example.org"]
    assert "refused some addresses: gone@example.org" in caplog.text


def test_an_undelivered_alert_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with serving(socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler)) as port:
        pass  # closed again, so nothing listens on the port
    settings = AlertSettings(
        email_to=["night@example.org"], smtp_host="127.0.0.1", smtp_port=port
    ).model_copy(update={"webhook": "file:///etc/passwd"})  # which settings refuse
    with caplog.at_level(logging.ERROR):
        send(settings, ALERT)
    assert "not an http(s) URL" in caplog.text
    assert "not delivered by e-mail" in caplog.text
    assert ALERT.what in caplog.text


def test_without_channels_the_alert_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    send(AlertSettings(), ALERT)
    assert ALERT.next_step in caplog.text
