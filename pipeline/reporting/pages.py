"""Serves pages inside the Airflow UI: the list of runs and releases, and each run's report.

Mounted by plugins/debcm_pages.py below /debcm of Airflow's API server, behind Airflow's own login
and its permission to see plugins.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Path
from fastapi.responses import HTMLResponse

from pipeline.lake.tables import Lake
from pipeline.releases.current import read_current, run_id_of
from pipeline.reporting.html import PAGE, fill
from pipeline.settings.load import load_settings
from pipeline.storage.store import Store

# Runs and releases that are listed; the page stays readable.
NEWEST = 200
RUN_ID = re.compile(r"\d{4}-\d\d-\d\d-[0-9a-f]{10}")
# A page cannot load anything, run scripts or submit forms, whatever its content.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "frame-ancestors 'self'; form-action 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def application(may_see: Callable[..., Any]) -> FastAPI:
    """Return the web application.

    Args:
        may_see: FastAPI dependency of every page; raises if the caller may not see it.
    """
    app = FastAPI(
        title="DebCM",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(may_see)],
    )

    @app.get("/", response_class=HTMLResponse)
    def runs_and_releases() -> HTMLResponse:
        settings = load_settings()
        lake, store = Lake(settings.lake), Store(settings.lake)
        return HTMLResponse(render(list_runs(lake, store), list_releases(store)), headers=HEADERS)

    @app.get("/reports/{run_id}", response_class=HTMLResponse)
    def report(run_id: Annotated[str, Path(max_length=64)]) -> HTMLResponse:
        store = Store(load_settings().lake)
        if not RUN_ID.fullmatch(run_id) or not store.exists(f"reports/{run_id}"):
            raise HTTPException(404, "there is no report of this run")
        page = store.fetch(f"reports/{run_id}") / PAGE
        return HTMLResponse(page.read_text(encoding="utf-8"), headers=HEADERS)

    return app


def list_runs(lake: Lake, store: Store) -> list[dict[str, Any]]:
    """Return the newest runs that the gate has decided on, newest first."""
    current = read_current(store)
    reports = set(store.children("reports"))
    rows = lake.read("runs").sort("finished_at", descending=True).head(NEWEST)
    runs = []
    for row in rows.iter_rows(named=True):
        metrics, reasons = json.loads(row["metrics"]), json.loads(row["reasons"])
        k = metrics["evaluation_set"]["k"]
        found = metrics["contenders"].get("challenger")
        promotion = current.promotion_of(row["run_id"]) if current else None
        runs.append(
            {
                "run_id": row["run_id"],
                "finished_at": row["finished_at"].strftime("%Y-%m-%d %H:%M"),
                "decision": row["decision"],
                "broken": [v["rule"] for v in reasons["verdicts"] if not v["passed"]],
                "measure": f"recall@{k}",
                "recall": found[f"recall@{k}"] if found else None,
                "rows": metrics["evaluation_set"]["rows"],
                "release": promotion.release_id if promotion else None,
                "current": bool(current and current.run_id == row["run_id"]),
                "report": row["run_id"] in reports,
            }
        )
    return runs


def list_releases(store: Store) -> list[dict[str, Any]]:
    """Return the promotions, newest first, and whether release and report still exist."""
    current = read_current(store)
    if current is None:
        return []
    kept, reports = set(store.names("releases")), set(store.children("reports"))
    return [
        {
            "release_id": promotion.release_id,
            "run_id": run_id_of(promotion.release_id),
            "at": promotion.at[:16].replace("T", " "),
            "why": promotion.why,
            "kept": promotion.release_id in kept,
            "report": run_id_of(promotion.release_id) in reports,
        }
        for promotion in current.promotions[:NEWEST]
    ]


def render(runs: list[dict[str, Any]], releases: list[dict[str, Any]]) -> str:
    """Return the HTML page that lists runs and releases."""
    return fill("runs.html", {"runs": runs, "releases": releases})
