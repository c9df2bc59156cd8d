"""One notifier for everything that should wake somebody: webhook and e-mail."""

from __future__ import annotations

import http.client
import json
import logging
import smtplib
import urllib.request
from dataclasses import asdict, dataclass
from email.message import EmailMessage

from pipeline.settings.sections import AlertSettings

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class Alert:
    """What failed, which day, where to look, what to do next."""

    title: str
    day: str
    what: str
    where: str
    next_step: str

    @property
    def subject(self) -> str:
        """Title and day on one line, as a mail's header must be."""
        return " ".join(f"{self.title} {self.day}".split())

    @property
    def text(self) -> str:
        """The rest of it, for people."""
        return f"{self.what}\n\nLook: {self.where}\nNext: {self.next_step}\n"


def send(settings: AlertSettings, alert: Alert) -> None:
    """Send an alert by every channel that is configured; a dead channel is logged, not raised.

    An alert reports a failure; failing itself, it would hide the one it reports.
    """
    log.error("ALERT %s", alert)
    if settings.webhook:
        try:
            _post(settings.webhook, alert)
        except (OSError, http.client.HTTPException):
            log.exception("alert not delivered to the webhook")
    if settings.email_to:
        try:
            _mail(settings, alert)
        except (OSError, smtplib.SMTPException, ValueError):
            log.exception("alert not delivered by mail")


def _post(url: str, alert: Alert) -> None:
    if not url.startswith(("http://", "https://")):
        raise OSError(f"[alerts] webhook is not an http(s) URL: {url}")
    # `text` is what chat services show; the fields are for machines.
    body = {"text": f"{alert.subject}\n{alert.text}", **asdict(alert)}
    request = urllib.request.Request(  # noqa: S310 (scheme checked above)
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS):  # noqa: S310
        pass


def _mail(settings: AlertSettings, alert: Alert) -> None:
    message = EmailMessage()
    message["Subject"] = f"[debcm] {alert.subject}"
    message["From"] = settings.email_from
    message["To"] = ", ".join(settings.email_to)
    message.set_content(alert.text)
    with smtplib.SMTP(settings.smtp_host, settings.smtp_port, timeout=TIMEOUT_SECONDS) as server:
        server.send_message(message)
