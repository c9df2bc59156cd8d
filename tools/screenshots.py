"""Take the pictures in docs/images: the grid, the asset graph, the page of runs and a report.

    DEBCM_CONFIG=simulation/demo.toml .venv/bin/python tools/screenshots.py

Shows whatever Airflow has run in this checkout (`make demo`, for instance), in the Debian package
chromium, headless.
"""

from __future__ import annotations

import shutil
import sys

from playwright.sync_api import Page, ViewportSize, sync_playwright

from pipeline.orchestration.local_airflow import CHECKOUT, LocalAirflow, environment, free_port

IMAGES = CHECKOUT / "docs" / "images"
SIZE = ViewportSize(width=1280, height=800)
PATIENCE_MS = 60_000
# Graphs move into place after they are drawn.
SETTLE_MS = 5_000


def main() -> int:
    """Start Airflow, look at four pages, write four files."""
    binary = shutil.which("chromium") or shutil.which("chromium-browser")
    if binary is None:
        sys.stderr.write("needs chromium (Debian: apt install chromium)\n")
        return 1
    IMAGES.mkdir(exist_ok=True)
    with LocalAirflow(environment(port=free_port())) as airflow, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)
        page.set_default_timeout(PATIENCE_MS)
        log_in(page, airflow)
        grid(page, airflow)
        assets(page, airflow)
        runs_and_report(page, airflow)
        browser.close()
    return 0


def log_in(page: Page, airflow: LocalAirflow) -> None:
    """As a person does, by the form."""
    page.goto(airflow.url)
    page.locator("input[name=username]").fill("admin")
    page.locator("input[name=password]").fill(airflow.password())
    page.locator("button[type=submit]").click()
    page.wait_for_url(f"{airflow.url}/")


def grid(page: Page, airflow: LocalAirflow) -> None:
    """The runs of `media_features`, over the whole width."""
    page.goto(f"{airflow.url}/dags/media_features")
    page.get_by_role("button", name="Collapse Details Panel").click()
    page.get_by_text("wait_for_day").wait_for()
    keep(page, "grid")


def assets(page: Page, airflow: LocalAirflow) -> None:
    """The graph of DAGs and tables around the asset that starts a retraining."""
    found = airflow.call("GET", "/assets?limit=100")["assets"]
    (asset,) = [asset for asset in found if asset["name"] == "features"]
    page.goto(f"{airflow.url}/assets/{asset['id']}")
    page.get_by_text("debcm_retrain").first.wait_for()
    keep(page, "assets")


def runs_and_report(page: Page, airflow: LocalAirflow) -> None:
    """The plugin's page inside the UI, and the report that its first link leads to."""
    page.goto(f"{airflow.url}/plugin/debcm")
    frame = page.frame_locator("iframe")
    frame.locator("#runs").wait_for()
    keep(page, "runs")
    frame.get_by_role("link", name="report").first.click()
    frame.locator("#decision").wait_for()
    keep(page, "report")


def keep(page: Page, name: str) -> None:
    """Write what is seen to docs/images."""
    page.wait_for_timeout(SETTLE_MS)
    page.screenshot(path=IMAGES / f"{name}.png")


if __name__ == "__main__":
    sys.exit(main())
