"""Airflow plugin: the page "DebCM runs" in the UI, with every run, release and report."""

from __future__ import annotations

from functools import cache
from typing import Any

from airflow.plugins_manager import AirflowPlugin


@cache
def application() -> Any:
    """The pages, for those whom Airflow lets see plugins; built when the first one is asked for.

    Every Airflow process loads the plugins, and only the API server needs the pages.
    """
    from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
    from airflow.api_fastapi.core_api.security import requires_access_view

    from pipeline.reporting import pages

    return pages.application(requires_access_view(AccessView.PLUGINS))


async def serve(scope: Any, receive: Any, send: Any) -> None:
    """The ASGI entry point that Airflow mounts."""
    await application()(scope, receive, send)


class DebcmPlugin(AirflowPlugin):
    """Mounts the pages below /debcm and links them in the navigation."""

    name = "debcm"
    fastapi_apps = [{"name": "DebCM", "app": serve, "url_prefix": "/debcm"}]  # noqa: RUF012
    external_views = [  # noqa: RUF012
        {
            "name": "DebCM runs",
            "href": "/debcm/",
            "url_route": "debcm",
            "destination": "nav",
            "category": "browse",
        }
    ]
