"""HTML as a browser reads it, for the tests."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """What a browser makes of some HTML: its elements, and the text of each cell."""

    _CELLS = ("p", "td", "th", "dt", "dd", "summary", "h2")

    def __init__(self, html: str, *cells: str) -> None:
        """`cells` are further elements that hold text."""
        super().__init__()
        self._cells = (*self._CELLS, *cells)
        self.elements: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.cells: list[tuple[str, str]] = []
        self._open = False
        self.feed(str(html))  # not Markup, whose operations escape
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(attrs)))
        if tag in self._cells:
            self.cells.append((tag, ""))
            self._open = True

    def handle_endtag(self, tag: str) -> None:
        if tag in self._cells:
            self._open = False

    def handle_data(self, data: str) -> None:
        assert self._open, f"text outside every cell: {data!r}"
        tag, text = self.cells[-1]
        self.cells[-1] = tag, text + data

    def texts(self, *tags: str) -> list[str]:
        return [text for tag, text in self.cells if tag in tags]

    def facts(self) -> dict[str, str]:
        names, values = self.texts("dt"), self.texts("dd")
        return dict(zip(names, values, strict=True))
