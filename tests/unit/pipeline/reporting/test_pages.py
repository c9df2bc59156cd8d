"""The pages inside the Airflow UI, requested over HTTP and opened in a headless Chromium."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from fastapi import HTTPException
from fastapi.testclient import TestClient

from pipeline.context import Context
from pipeline.orchestration.local_airflow import free_port
from pipeline.publishing.history import rollback
from pipeline.reporting import pages, report
from pipeline.reporting.report import PAGE
from pipeline.training.evaluate import load_metrics
from tests.helpers.hang_watch import Limit


@pytest.fixture
def site(published: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    with published.store.writing(f"reports/{published.run_id}") as folder:
        (folder / PAGE).write_text(f"report of {published.run_id}")
    monkeypatch.setenv("DEBCM_LAKE__ROOT", published.settings.lake.root)
    return published


def allowed() -> None:
    """Allow everybody."""


@contextmanager
def serving(app: Any) -> Iterator[str]:
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="critical", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        limit = Limit(30)
        while not server.started:
            assert not limit.is_reached()
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.should_exit = True
        thread.join(30)


def test_runs_and_releases_are_listed_and_link_to_the_report(site: Any, chromium: Any) -> None:
    report.run(Context(site.settings), site.run_id)
    page = chromium.new_page()
    messages: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    with serving(pages.application(allowed)) as url:
        page.goto(url)
        (run,) = page.locator("#runs tr:has(td)").all()
        cells = [cell.inner_text() for cell in run.locator("td").all()]
        (release,) = page.locator("#releases tr:has(td)").all()
        assert site.run_id in release.inner_text()
        run.get_by_role("link").click()
        heading = page.inner_text("h1")
        pictures = page.eval_on_selector_all(
            "img", "found => found.map(e => e.complete && e.naturalWidth)"
        )
        page.close()
    figures = load_metrics(site.store, site.run_id)
    assert cells[0] == site.run_id
    assert cells[2] == "publish"
    measure, recall = cells[4].split()
    assert measure == "recall@10"
    assert float(recall) == round(figures["contenders"]["challenger"]["recall@10"], 3)
    assert int(cells[5]) == figures["evaluation_set"]["rows"]
    assert cells[6].split() == [site.run_id, "current"]
    assert heading.startswith(f"Run {site.run_id}")
    assert pictures
    assert all(pictures)
    # The browser requests a favicon, which does not exist.
    assert [text for text in messages if "404" not in text] == []


def test_ids_and_times_stay_on_one_line_beside_many_broken_rules(chromium: Any) -> None:
    name = "2026-03-08-0123456789"
    run = {"run_id": name, "release": name, "current": True, "report": True, "rows": 17}
    run |= {"finished_at": "2026-03-09 02:17", "decision": "refuse", "measure": "recall@10"}
    run |= {"recall": 0.5, "broken": ["beats_random", "beats_popularity", "champion_recall"] * 3}
    page = chromium.new_page(viewport={"width": 1180, "height": 800})
    page.set_content(pages.render([run], []))
    lines = page.eval_on_selector_all(
        "#runs td:nth-child(1), #runs td:nth-child(2), #runs td:nth-child(7) span:first-child",
        """found => found.map(cell => {
            const text = document.createRange();
            text.selectNodeContents(cell);
            return text.getClientRects().length;
        })""",
    )
    width = page.evaluate("document.documentElement.scrollWidth")
    page.close()
    assert (lines, width) == ([1, 1, 1], 1180)


def test_pages_are_hidden_without_permission(site: Any) -> None:
    def refused() -> None:
        raise HTTPException(403, "no")

    with TestClient(pages.application(refused)) as client:
        for path in ("/", f"/reports/{site.run_id}"):
            answer = client.get(path)
            assert answer.status_code == 403
            assert site.run_id not in answer.text


def test_a_missing_report_is_not_found(site: Any) -> None:
    with TestClient(pages.application(allowed)) as client:
        assert client.get(f"/reports/{site.run_id}").text == f"report of {site.run_id}"
        for run_id in ("2026-03-03-0000000000", "%2e%2e%2fruns", f"{site.run_id}0", "x" * 65):
            assert client.get(f"/reports/{run_id}").status_code in (404, 422), run_id


def test_pages_forbid_scripts_and_external_resources(site: Any) -> None:
    with TestClient(pages.application(allowed)) as client:
        for path in ("/", f"/reports/{site.run_id}"):
            policy = client.get(path).headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "script" not in policy


def test_the_page_of_an_empty_lake_says_that_it_is_empty(toy: Any) -> None:
    text = pages.render(pages.list_runs(toy.lake, toy.store), pages.list_releases(toy.store))
    assert "not decided on any run yet" in text
    assert "No release has been published yet" in text


def test_a_rollback_is_listed_with_its_reason(site: Any, next_run: Any, publishing: Any) -> None:
    second = next_run(site)
    publishing(site, second)
    rollback(site.settings, site.store, "it <b>hums</b>")
    listed = pages.list_releases(site.store)
    assert [row["release_id"] for row in listed] == [site.run_id, second, site.run_id]
    runs = {row["run_id"]: row for row in pages.list_runs(site.lake, site.store)}
    assert runs[site.run_id]["current"]
    assert not runs[second]["current"]
    assert "it &lt;b&gt;hums&lt;/b&gt;" in pages.render([], listed)
