"""Takes the screenshots in docs/images: the grid, the asset graph, the list of runs, a report.

    DEBCM_CONFIG=simulation/demo.toml .venv/bin/python -m tools.screenshots

They show what Airflow has run in this checkout, for instance with `make demo`. Needs the Debian
package chromium, which runs headless.
"""

from __future__ import annotations

import shutil
import sys

from playwright.sync_api import Page, ViewportSize, sync_playwright

from pipeline.orchestration.local_airflow import CHECKOUT, LocalAirflow, environment, free_port

IMAGES = CHECKOUT / "docs" / "images"
SIZE = ViewportSize(width=1280, height=800)
TIMEOUT_MS = 60_000
# Graphs move for some seconds after they are drawn.
SETTLE_MS = 5_000


def main() -> int:
    """Start Airflow and take four screenshots; return the exit code."""
    binary = shutil.which("chromium") or shutil.which("chromium-browser")
    if binary is None:
        sys.stderr.write("chromium is missing.\nInstall it: apt install chromium (Debian)\n")
        return 1
    IMAGES.mkdir(exist_ok=True)
    with LocalAirflow(environment(port=free_port())) as airflow, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)
        page.set_default_timeout(TIMEOUT_MS)
        log_in(page, airflow)
        capture_grid(page, airflow)
        capture_assets(page, airflow)
        capture_runs_and_report(page, airflow)
        browser.close()
    return 0


def log_in(page: Page, airflow: LocalAirflow) -> None:
    """Log in with the form."""
    page.goto(airflow.url)
    page.locator("input[name=username]").fill("admin")
    page.locator("input[name=password]").fill(airflow.password())
    page.locator("button[type=submit]").click()
    page.wait_for_url(f"{airflow.url}/")


def capture_grid(page: Page, airflow: LocalAirflow) -> None:
    """Capture the DAG runs of `media_features`, over the whole width."""
    page.goto(f"{airflow.url}/dags/media_features")
    page.get_by_role("button", name="Collapse Details Panel").click()
    page.get_by_text("wait_for_day").wait_for()
    save(page, "grid")


def capture_assets(page: Page, airflow: LocalAirflow) -> None:
    """Capture the graph of DAGs and tables around the asset that starts a retraining."""
    found = airflow.call("GET", "/assets?limit=100")["assets"]
    (asset,) = [asset for asset in found if asset["name"] == "features"]
    page.goto(f"{airflow.url}/assets/{asset['id']}")
    page.get_by_text("debcm_retrain").first.wait_for()
    save(page, "assets")


def capture_runs_and_report(page: Page, airflow: LocalAirflow) -> None:
    """Capture the plugin's page of runs in the UI, and the report of the first run."""
    page.goto(f"{airflow.url}/plugin/debcm")
    frame = page.frame_locator("iframe")
    frame.locator("#runs").wait_for()
    save(page, "runs")
    frame.get_by_role("link", name="report").first.click()
    frame.locator("#decision").wait_for()
    save(page, "report")


def save(page: Page, name: str) -> None:
    """Write a screenshot of the page to docs/images."""
    page.wait_for_timeout(SETTLE_MS)
    page.screenshot(path=IMAGES / f"{name}.png")


if __name__ == "__main__":
    sys.exit(main())
