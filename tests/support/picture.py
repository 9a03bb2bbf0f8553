"""A pull request's text as GitHub shows it: GitHub's stylesheet, its Markdown and Mermaid, in a real browser, as a PNG.

usage: python -m tests.support.picture BODY.md OUT.png     (needs chromium and npm)
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGES = ("marked@16.4.1", "mermaid@11.12.1", "github-markdown-css@5.8.1")
CACHE = Path.home() / ".cache" / "modekeeper" / "picture"
WIDTH, HEIGHT = 980, 1500
PAGE = """<!doctype html><meta charset="utf-8"><title>pull request</title>
<link rel="stylesheet" href="{modules}/github-markdown-css/github-markdown-light.css">
<style>body {{ margin: 24px; background: #fff }} .markdown-body {{ border: 1px solid #d1d9e0; border-radius: 6px; padding: 20px }}</style>
<article class="markdown-body" id="body"></article>
<script src="{modules}/marked/lib/marked.umd.js"></script>
<script src="{modules}/mermaid/dist/mermaid.min.js"></script>
<script>
const article = document.getElementById("body");
article.innerHTML = marked.parse({text});
for (const code of article.querySelectorAll("code.language-mermaid")) {{
  const chart = document.createElement("pre");
  chart.className = "mermaid"; chart.textContent = code.textContent; code.parentElement.replaceWith(chart);
}}
mermaid.initialize({{ startOnLoad: false, securityLevel: "strict" }});
mermaid.run();
</script>"""


def picture(body: Path, out: Path) -> None:
    """Draw it. Raises RuntimeError where there is no browser."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise RuntimeError("no chromium on the PATH")
    modules = CACHE / "node_modules"
    if not all((modules / name.partition("@")[0]).exists() for name in PACKAGES):
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["npm", "install", "--ignore-scripts", "--silent", "--prefix", str(CACHE), *PACKAGES], check=True
        )
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "page.html")
        text = json.dumps(body.read_text()).replace("</", "<\\/")
        page.write_text(PAGE.format(modules=modules.as_uri(), text=text))
        subprocess.run(
            [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
                "--disable-component-update", "--disable-sync", "--allow-file-access-from-files", "--hide-scrollbars",
                f"--user-data-dir={folder}/profile", f"--window-size={WIDTH},{HEIGHT}", "--virtual-time-budget=8000",
                f"--screenshot={out.resolve()}", page.as_uri(),
            ],
            check=True, capture_output=True,
        )  # fmt: skip


if __name__ == "__main__":
    picture(Path(sys.argv[1]), Path(sys.argv[2]))
