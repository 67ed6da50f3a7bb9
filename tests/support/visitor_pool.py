"""Browser contexts reused by consecutive tests, so that pages find their compiled scripts in the cache."""

from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext

_MAX_IDLE = 6


class VisitorPool:
    """Lends contexts by options. A context keeps the cache of earlier tests, but none of their pages, cookies or storage."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._options = dict[BrowserContext, str]()
        self._origins = dict[BrowserContext, set[str]]()
        self._idle = list[BrowserContext]()

    def borrow(self, **options: object) -> BrowserContext:
        """Return a context with these options of `Browser.new_context`."""
        key = repr(sorted(options.items()))
        idle = next((context for context in self._idle if self._options[context] == key), None)
        if idle:
            self._idle.remove(idle)
            return idle
        context = self._browser.new_context(**options)  # type: ignore[arg-type]  # options
        self._options[context], origins = key, set[str]()
        self._origins[context] = origins
        context.on("page", lambda page: page.on("framenavigated", lambda frame: origins.add(_origin(frame.url))))
        return context

    def give_back(self, context: BrowserContext) -> None:
        """Clear the context for its next visitor."""
        blank = context.new_page()
        for page in context.pages:
            if page is not blank:
                page.close()
        session = context.new_cdp_session(blank)
        for origin in sorted(filter(None, self._origins[context])):  # including those of pages that the test closed
            session.send("Storage.clearDataForOrigin", {"origin": origin, "storageTypes": "all"})
        context.clear_cookies()
        blank.close()
        self._idle.append(context)
        if len(self._idle) > _MAX_IDLE:
            oldest = self._idle.pop(0)
            del self._options[oldest], self._origins[oldest]
            oldest.close()


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""
