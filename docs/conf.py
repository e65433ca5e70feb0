"""Sphinx: MyST Markdown, furo, no network."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from channels_secure import __version__

project = "channels_secure"
copyright = "channels_secure contributors"
release = version = __version__
extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"channels_secure {release}"
html_static_path = ["_static"]
nitpicky = True
