"""Sends alerts to the people on call, by webhook and e-mail."""

from __future__ import annotations

import json
import logging
import smtplib
import urllib.request
from dataclasses import asdict, dataclass
from email.message import EmailMessage

from pipeline.settings.sections import AlertSettings

log = logging.getLogger(__name__)

# Per channel. A task must not wait long for a channel that does not answer.
TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class Alert:
    """A message to the people on call. The webhook posts these fields as JSON.

    Attributes:
        title: what failed, in a few words.
        day: the landing day, ISO 8601; empty if unknown.
        what: what happened.
        where: URL of the DAG run in the Airflow UI.
        next_step: what to do.
    """

    title: str
    day: str
    what: str
    where: str
    next_step: str

    @property
    def subject(self) -> str:
        """Title and day on one line, as e-mail headers require."""
        return " ".join(f"{self.title} {self.day}".split())

    @property
    def text(self) -> str:
        """What happened, where to look and what to do, for people."""
        return f"{self.what}\n\nLook: {self.where}\nNext: {self.next_step}\n"


def send(settings: AlertSettings, alert: Alert) -> None:
    """Log an alert and send it to every configured channel.

    Channels fail one by one: whatever one raises is logged, and the others are used. An error here
    would also hide the failure that the alert reports.
    """
    log.error("ALERT %s", alert)
    if settings.webhook:
        try:
            _post(settings.webhook, alert)
        except Exception:
            log.exception("the alert was not delivered to the webhook")
    if settings.email_to:
        try:
            _mail(settings, alert)
        except Exception:
            log.exception("the alert was not delivered by e-mail")


def _post(url: str, alert: Alert) -> None:
    if not url.startswith(("http://", "https://")):
        # The URL itself is a secret.
        raise ValueError("[alerts] webhook is not an http(s) URL")
    # Chat services show `text`; other receivers read the fields.
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
        refused = server.send_message(message)
    if refused:
        log.error("the mail server refused some addresses: %s", ", ".join(refused))
