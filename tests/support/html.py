"""An HTML parser for tests of rendered pages."""

from html.parser import HTMLParser


class ParsedPage(HTMLParser):
    """The elements of some HTML, and the text of each cell."""

    _CELLS = ("p", "td", "th", "dt", "dd", "summary", "h2")

    def __init__(self, html: str, *cells: str) -> None:
        """Parse `html`. `cells` are further elements that contain text."""
        super().__init__()
        self._cells = (*self._CELLS, *cells)
        self.elements: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.cells: list[tuple[str, str]] = []
        self._is_open = False
        self.feed(str(html))  # a plain string, because operations on Markup escape
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(attrs)))
        if tag in self._cells:
            self.cells.append((tag, ""))
            self._is_open = True

    def handle_endtag(self, tag: str) -> None:
        if tag in self._cells:
            self._is_open = False

    def handle_data(self, data: str) -> None:
        assert self._is_open, f"text outside all cells: {data!r}"
        tag, text = self.cells[-1]
        self.cells[-1] = tag, text + data

    def texts(self, *tags: str) -> list[str]:
        return [text for tag, text in self.cells if tag in tags]

    def definitions(self) -> dict[str, str]:
        names, values = self.texts("dt"), self.texts("dd")
        return dict(zip(names, values, strict=True))
