"""The plugin with the pages does not block the API server.

Fault 2 of the on-call list: the first page was built in the server's event loop, which answered
nothing for 26 seconds.
"""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys
import threading
import warnings
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

from pipeline.orchestration.local_airflow import CHECKOUT

# Only catches a test that hangs.
HANG_SECONDS = 60.0


@pytest.fixture
def plugin() -> Any:
    """The plugin, loaded as Airflow loads it."""
    path = CHECKOUT / "plugins" / "debcm_pages.py"
    spec = importlib.util.spec_from_file_location("debcm_pages_in_test", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spec.loader.exec_module(module)
    return module


async def answer() -> str:
    return "healthy"


def test_other_endpoints_answer_while_the_first_page_is_built(
    plugin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end, built = threading.Event(), threading.Event(), []

    def slow_application() -> Any:
        begun.set()
        # In the event loop this would end only by the timeout, because nobody could set the event.
        built.append(may_end.wait(HANG_SECONDS))
        return PlainTextResponse("the page")

    monkeypatch.setattr(plugin, "application", slow_application)
    mounted = plugin.DebcmPlugin.fastapi_apps[0]
    server = FastAPI()
    server.get("/health", response_class=PlainTextResponse)(answer)
    server.mount(mounted["url_prefix"], mounted["app"])

    async def requests() -> list[str]:
        transport = httpx.ASGITransport(app=server)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            page = asyncio.create_task(client.get("/debcm/"))
            await asyncio.to_thread(begun.wait, HANG_SECONDS)
            texts = [(await client.get("/health")).text, "built" if built else "not built"]
            may_end.set()
            return [*texts, (await page).text]

    assert asyncio.run(requests()) == ["healthy", "not built", "the page"]


def test_the_application_is_built_once_for_requests_at_the_same_time(
    plugin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.reporting import pages

    built: list[Any] = []

    def build(may_see: Any) -> Any:
        built.append(may_see)
        return PlainTextResponse("the page")

    monkeypatch.setattr(pages, "application", build)

    async def requests() -> list[str]:
        transport = httpx.ASGITransport(app=plugin.serve)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            answers = await asyncio.gather(*(client.get("/") for _ in range(5)))
            return [answer.text for answer in answers]

    assert asyncio.run(requests()) == ["the page"] * 5
    assert len(built) == 1


def test_no_page_is_made_in_the_event_loop() -> None:
    from pipeline.reporting import pages

    app = pages.application(lambda: None)
    endpoints = [route.endpoint for route in app.routes if hasattr(route, "endpoint")]
    assert len(endpoints) == 2
    assert not any(asyncio.iscoroutinefunction(endpoint) for endpoint in endpoints)


def test_the_pages_import_neither_torch_nor_plots() -> None:
    code = "import sys, pipeline.reporting.pages; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "matplotlib", "cv2", "av", "librosa"} & set(done.stdout.split())
