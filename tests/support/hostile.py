"""Hypothesis strategies: text that breaks HTML unless it is escaped, and languages."""

from hypothesis import strategies as st

_MARKUP = [
    "<script>",
    "</dd>",
    "</p>",
    '" onload="',
    "'",
    "&",
    "&lt;",
    "<img src=x>",
    "<!--",
    "]]>",
    "{{ 7*7 }}",
    "{0}",
]

hostile_texts = st.lists(st.sampled_from(_MARKUP) | st.text(max_size=4), max_size=5).map(
    lambda parts: "x" + "".join(parts)
)
languages = st.sampled_from(["en", "ro"])
