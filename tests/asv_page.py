"""asv's published pages in a headless browser. What they load from the web comes from npm instead, from this machine."""

from __future__ import annotations

import functools
import http.server
import re
import shutil
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FROM_NPM = {  # end of the address, as asv 0.6.6 has it -> package, file in it
    "jquery-3.3.1.min.js": ("jquery@3.3.1", "dist/jquery.min.js"),
    "jquery.flot.min.js": ("flot@0.8.3", "jquery.flot.js"),
    "jquery.flot.time.min.js": ("flot@0.8.3", "jquery.flot.time.js"),
    "jquery.flot.selection.min.js": ("flot@0.8.3", "jquery.flot.selection.js"),
    "jquery.flot.categories.min.js": ("flot@0.8.3", "jquery.flot.categories.js"),
    "jquery.flot.orderBars.js": ("flot-orderbars@1.0.0", "js/jquery.flot.orderBars.js"),
    "stupidtable.min.js": ("stupid-table-plugin@1.1.3", "stupidtable.js"),  # npm has no 1.0.1
    "md5.min.js": ("blueimp-md5@2.19.0", "js/md5.min.js"),
    "bootstrap.min.js": ("bootstrap@3.1.1", "dist/js/bootstrap.min.js"),
    "bootstrap.min.css": ("bootstrap@3.1.1", "dist/css/bootstrap.min.css"),
}
_ELSEWHERE = re.compile(r'(?P<attribute>src|href)="https://[^"]*/(?P<file>[^"/]+\.(?:js|css))"[^>]*>')


def browser() -> str:
    """Return a browser; without one the test is skipped."""
    found = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"none of {', '.join(_BROWSERS)} is installed, which would show asv's page")
    return found


def bring_libraries(page: Path, downloads: Path) -> None:
    """Put the libraries of ``page/index.html`` beside it."""
    index = page / "index.html"
    text = index.read_text()
    for match in _ELSEWHERE.finditer(text):
        package, path = _FROM_NPM[match["file"]]
        (page / match["file"]).write_bytes(_from_npm(package, path, downloads))
    index.write_text(_ELSEWHERE.sub(r'\g<attribute>="\g<file>">', text))


def _from_npm(package: str, path: str, downloads: Path) -> bytes:
    folder = downloads / package
    if not folder.exists():
        folder.mkdir(parents=True)
        try:
            subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True, timeout=120)
        except (OSError, subprocess.SubprocessError) as error:
            pytest.skip(f"{package}, which asv's page loads, cannot be had from npm: {error}")
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        member = archive.extractfile(f"package/{path}")
        assert member is not None
        return member.read()


def rendered(page: Path, profile: Path, *flags: str, place: str = "") -> str:
    """Return the page as the browser has it once its scripts have run; ``place``: such as ``#/summarylist``."""
    handler = functools.partial(_Quiet, directory=str(page))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        words = [
            browser(), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}",
            "--virtual-time-budget=20000", *flags, "--dump-dom", f"http://127.0.0.1:{server.server_port}/{place}",
        ]  # fmt: skip
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=200, check=True)
        finally:
            server.shutdown()
    return done.stdout


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass
