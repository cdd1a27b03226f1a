"""Configuration of the documentation site.

    python -m pip install ".[docs]"
    python -m sphinx -W --keep-going -n docs build/site

The tutorials and the notebooks of evidence are copied here as they were committed, with their
outputs; building the site executes nothing.
"""

import shutil
from pathlib import Path

import fourierreg

ROOT = Path(__file__).parents[1]
COPIED = {"tutorials": "tutorials", "notebooks": "evidence"}  # folder: folder of the site

for folder, name in COPIED.items():
    copies = Path(__file__).parent / name
    shutil.rmtree(copies, ignore_errors=True)
    copies.mkdir()
    for notebook in sorted((ROOT / folder).glob("*.ipynb")):
        shutil.copy(notebook, copies)

project = "fourierreg"
author = copyright = "the fourierreg developers"
version = release = fourierreg.__version__

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx-mathjax-offline",
    "sphinx_copybutton",
    "sphinx_design",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]
suppress_warnings = ["mystnb.mime_priority"]

default_role = "literal"  # `name` in a docstring is code
smartquotes = False
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"  # the docstrings give types, shapes and units
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
numpydoc_xref_param_type = False
# numpydoc's checks, in the form that this package writes: a summary line, the parameters that the
# signature has, what comes back.
numpydoc_validation_checks = {"GL01", "GL06", "GL07", "GL08", "PR01", "PR02", "PR03", "SS01"}

# Fields of a class are its attributes, and its methods are documented where they are not obvious.
numpydoc_validation_exclude = {r"\.[A-Z]\w*$", r"\.[A-Z]\w*\."}

copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True

html_theme = "pydata_sphinx_theme"
html_title = "fourierreg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
# Pages by themselves have no section beside them.
html_sidebars = {
    name: [] for name in ("index", "mathematics", "comparison", "faq", "contributing", "changelog")
}
html_theme_options = {
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "header_links_before_dropdown": 7,
    "footer_start": ["copyright"],
    "footer_end": [],
}
