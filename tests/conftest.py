"""What several test modules need."""

import os
import shutil

import pytest

from lesson_utils.data import DATA, located

DIGITS = located(os.environ.get("LESSONS_DATA") or DATA) / "MNIST/raw"

needs_digits = pytest.mark.skipif(
    not (DIGITS / "t10k-labels-idx1-ubyte").is_file(),
    reason=f"MNIST is not in {DIGITS}: connect and run a lesson with dataset = 'mnist' "
    "once, or set LESSONS_DATA to the folder that holds MNIST/raw",
)


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium by Playwright: skipped without, a failure if BROWSER is must."""
    names = "chromium", "chromium-browser", "google-chrome"
    found = filter(None, [os.environ.get("CHROMIUM"), *map(shutil.which, names)])
    if not (path := next(found, None)):
        lacking = pytest.fail if os.environ.get("BROWSER") == "must" else pytest.skip
        lacking(
            "there is no Chromium: install one (Debian, Ubuntu: apt install chromium), "
            "or say where it is: CHROMIUM=/path/to/chromium"
        )
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            args=["--no-sandbox"],  # root has no other choice
        )
        yield browser
        browser.close()
