"""How Sphinx builds these pages: MyST Markdown, the furo theme, docstrings from the installed package."""

from importlib.metadata import version as installed_version

project = "banhammer"
author = "the banhammer authors"
release = version = installed_version("banhammer-limiter")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

default_role = "code"  # Docstrings write names in single backticks.
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True

html_theme = "furo"
html_title = f"banhammer {release}"
html_show_sourcelink = False
