"""Take the screenshot of MLflow's comparison that the documents show, in a real browser.

    pip install playwright
    python docs/mlflow_screenshot.py STUDY --home WORKSPACE --output docs/images

Starts ``mgstudy ui`` on the workspace, opens the comparison of every cell's best run, and writes a
PNG of it. Uses the Chromium that is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import urlopen

from mlflow.tracking import MlflowClient
from playwright.sync_api import sync_playwright

from mgstudy.study.results.summary import summarize
from mgstudy.workspace import Workspace

_START_SECONDS = 300
_PAGE_MILLISECONDS = 120_000
_DRAWING_MILLISECONDS = 3_000


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("study")
    arguments.add_argument("--home", type=Path)
    arguments.add_argument("--output", type=Path, default=Path("docs/images"))
    options = arguments.parse_args()
    workspace = Workspace.resolve(options.home)
    summary = summarize(workspace, options.study)
    client = MlflowClient(summary.tracking_uri)
    experiment = client.get_experiment_by_name(summary.manifest.tracking.experiment)
    best = client.search_runs(
        [experiment.experiment_id], "tags.`mgstudy.best_of_cell` = 'true'", max_results=50
    )
    runs = sorted(best, key=lambda run: run.info.run_name)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "MGSTUDY_HOME": str(workspace.home)}
    server = subprocess.Popen(
        [sys.executable, "-m", "mgstudy.cli", "ui", "--port", str(port)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(address)
        options.output.mkdir(parents=True, exist_ok=True)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium") or shutil.which("google-chrome"),
                args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
            )
            page = browser.new_page(viewport={"width": 1600, "height": 1100})
            page.set_default_timeout(_PAGE_MILLISECONDS)
            ids = quote(json.dumps([run.info.run_id for run in runs]))
            experiments = quote(json.dumps([experiment.experiment_id]))
            page.goto(f"{address}/#/compare-runs?runs={ids}&experiments={experiments}")
            page.locator(".js-plotly-plot").first.wait_for()
            page.get_by_label("Close").first.click()  # The assistant's panel covers half the page.
            page.wait_for_timeout(_DRAWING_MILLISECONDS)
            page.screenshot(path=options.output / f"{options.study}_mlflow_compare.png")
            browser.close()
    finally:
        server.terminate()
        server.wait()


def wait_for(address: str) -> None:
    """Wait until the server answers."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        try:
            with urlopen(address, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.5)
    raise SystemExit(f"MLflow's UI did not start on {address}")


if __name__ == "__main__":
    main()
