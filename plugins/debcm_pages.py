"""Adds the page "DebCM runs" to the Airflow UI, with every run, release and report."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

from airflow.plugins_manager import AirflowPlugin

# One thread, so that the application is built once. The threads in which Airflow answers requests
# stay free.
_builder = ThreadPoolExecutor(1, thread_name_prefix="debcm-pages")


@cache
def application() -> Any:
    """Return the application with the pages, for users whom Airflow allows to view plugins.

    It is built at the first request: every Airflow process loads the plugins, but only the API
    server needs the pages. The imports take seconds of CPU time.
    """
    from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
    from airflow.api_fastapi.core_api.security import requires_access_view

    from pipeline.reporting import pages

    return pages.application(requires_access_view(AccessView.PLUGINS))


async def serve(scope: Any, receive: Any, send: Any) -> None:
    """Serve a request; this is the ASGI application that Airflow mounts.

    The event loop is the API server's. Heartbeats of tasks time out while it is blocked.
    """
    app = await asyncio.get_running_loop().run_in_executor(_builder, application)
    await app(scope, receive, send)


class DebcmPlugin(AirflowPlugin):
    """Mounts the pages below /debcm, and adds a link to the menu Browse."""

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
