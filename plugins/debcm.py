"""Airflow plugin: the page "DebCM runs" in the UI, with every run, release and report."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin


async def pages(scope: Any, receive: Any, send: Any) -> None:
    """The pages as an ASGI application, built when the first one is asked for.

    Every Airflow process loads the plugins, and only the API server needs the pages.
    """
    from pipeline.pages import application

    await application()(scope, receive, send)


class DebcmPlugin(AirflowPlugin):
    """Mounts the pages below /debcm and links them in the navigation."""

    name = "debcm"
    fastapi_apps = [{"name": "DebCM", "app": pages, "url_prefix": "/debcm"}]  # noqa: RUF012
    external_views = [  # noqa: RUF012
        {
            "name": "DebCM runs",
            "href": "/debcm/",
            "url_route": "debcm",
            "destination": "nav",
            "category": "browse",
        }
    ]
