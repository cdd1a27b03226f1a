"""Check that every link of the built site that stays in it leads somewhere.

python docs/check_links.py build/site
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """Links and anchors of a page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors = [], {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("href", "src") and value:
                self.links.append(value)
            elif name in ("id", "name") and value:
                self.anchors.add(value)


def main(folder):
    """Print dead links; returns the exit code."""
    root = Path(folder).resolve()
    found = [path for path in root.rglob("*.html") if "_static" not in path.parts]
    pages = {path: Page(path) for path in found}
    dead = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = pages.get(target)
            if not target.exists() or (known and unquote(parts.fragment) not in known.anchors):
                dead.append(f"{path.relative_to(root)}: {link}")
    print("\n".join(dead) or f"{sum(len(p.links) for p in pages.values())} links checked")
    return 1 if dead or not pages else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
