"""Take the pictures in docs/images: the grid, the asset graph, the page of runs and a report.

    make demo
    DEBCM_CONFIG=simulation/demo.toml .venv/bin/python docs/screenshots.py

Shows what Airflow has run in this checkout, in the Debian package chromium, headless.
"""

from __future__ import annotations

import shutil
import sys

from playwright.sync_api import Page, sync_playwright

from pipeline.local_airflow import CHECKOUT, LocalAirflow, environment, free_port

IMAGES = CHECKOUT / "docs" / "images"
SIZE = {"width": 1280, "height": 800}
# The UI draws graphs and grids after it has loaded.
SETTLE_MS = 4000


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
        log_in(page, airflow)
        (asset,) = airflow.call("GET", "/assets?name_pattern=features&limit=1")["assets"]
        for name, path in (
            ("grid", "/dags/media_features"),
            ("assets", f"/assets/{asset['id']}"),
            ("runs", "/plugin/debcm"),
        ):
            page.goto(f"{airflow.url}{path}")
            page.wait_for_timeout(SETTLE_MS)
            page.screenshot(path=IMAGES / f"{name}.png")
        page.goto(f"{airflow.url}/debcm/")
        page.locator("#runs a").first.click()
        page.screenshot(path=IMAGES / "report.png")
        browser.close()
    return 0


def log_in(page: Page, airflow: LocalAirflow) -> None:
    """As a person does, by the form."""
    page.goto(airflow.url)
    page.locator("input[name=username]").fill("admin")
    page.locator("input[name=password]").fill(airflow.password())
    page.locator("button[type=submit]").click()
    page.wait_for_url(f"{airflow.url}/")


if __name__ == "__main__":
    sys.exit(main())
