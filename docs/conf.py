"""How the documentation is built: no network is needed, and a warning is an error."""

import os
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The pages describe, and their cells run, the package of this checkout.
sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
# A terminal's width, so that printed models and summaries are not broken anywhere else.
os.environ["COLUMNS"] = "96"

project = "glmm_bayes"
author = "The glmm_bayes developers"
release = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
version = release
project_copyright = author

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build", "jupyter_execute", "**.ipynb_checkpoints"]
templates_path = ["_templates"]

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

# Executed at every build: an example that no longer runs stops it.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 180
nb_execution_show_tb = True
nb_merge_streams = True

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"
# In docstrings, single backticks are code.
default_role = "code"
numpydoc_show_class_members = False
python_maximum_signature_line_length = 80

html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_title = f"glmm_bayes {release}"
# Pages without others beside them need no list of those.
alone = ("index", "tutorial", "likelihood", "methods", "means", "coming", "extending")
html_sidebars = {page: [] for page in alone}
html_show_sourcelink = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
