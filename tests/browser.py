"""A real headless Chromium: what a page looks like, and what its scripts made of it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--allow-file-access-from-files",
    "--virtual-time-budget=4000",
)
DARK = "--blink-settings=preferredColorScheme=0"


def chromium(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Chromium once with a profile of its own."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert program, "these tests need Chromium: apt-get install chromium"
    with tempfile.TemporaryDirectory() as profile:
        command = [program, *FLAGS, f"--user-data-dir={profile}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=180)


def screenshot(page: Path, image: Path, width: int, height: int, *flags: str) -> Path:
    """A picture of the page; widths that a window can't have are had by a frame."""
    window = max(width, 600)
    shown = page
    if window != width:
        shown = image.with_suffix(".frame.html")
        frame = f'<iframe src="{page.resolve().as_uri()}" style="width:{width}px;height:{height}px;border:0"></iframe>'
        shown.write_text(f'<body style="margin:0">{frame}')
    chromium(f"--window-size={window},{height}", f"--screenshot={image}", *flags, shown.resolve().as_uri())
    assert image.stat().st_size > 0
    return image


def dom_after(page: Path, script: str, folder: Path, width: int = 1280, height: int = 900) -> str:
    """The page's HTML after its own scripts and then `script` have run; errors stand in its title as 'ERROR …'."""
    copy = folder / "probed.html"
    catcher = "<script>onerror = (m) => { document.title = 'ERROR ' + m; };</script>"
    probe = f"<script>addEventListener('load', () => setTimeout(() => {{ {script} }}, 300));</script>"
    text = page.read_text(encoding="utf-8").replace("<head>", f"<head>{catcher}", 1)
    copy.write_text(text.replace("</body>", f"{probe}</body>"), encoding="utf-8")
    return chromium(f"--window-size={width},{height}", "--dump-dom", copy.resolve().as_uri()).stdout
