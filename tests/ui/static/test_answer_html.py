"""The HTML that the browser creates for an answer: GitHub Flavored Markdown, mathematics and directions, never raw HTML.

The modules of static/chat/ run in Deno, without a browser.
"""

import html
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import deno
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.hostile import hostile_texts

Render = Callable[[str], list[str]]

# The elements that Markdown can produce, without those of KaTeX.
_TAGS = {"p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "hr", "br", "strong", "em", "s", "a"}
_TAGS |= {"img", "code", "pre", "div", "span", "input", "table", "thead", "tbody", "tr", "th", "td"}
_ATTRIBUTES = {"dir", "class", "href", "title", "target", "rel", "src", "alt", "start", "style", "tabindex", "type"}
_ATTRIBUTES |= {"disabled", "checked", "aria-label", "data-language"}


@pytest.fixture(scope="module")
def render() -> Iterator[Render]:
    """A function that returns the HTML of each block of a text."""
    command = [deno.find_deno_bin(), "run", "--no-config", str(Path(__file__).with_name("render_blocks.js"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdin
        assert process.stdout
        stdin, stdout = process.stdin, process.stdout

        def ask(text: str) -> list[str]:
            print(json.dumps(text), file=stdin, flush=True)
            return list(json.loads(stdout.readline()))

        yield ask
        stdin.close()


class _Html(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def formulas(blocks: list[str]) -> list[str]:
    """Return the TeX of the drawn formulas."""
    return re.findall(r'<annotation encoding="application/x-tex">(.*?)</annotation>', "".join(blocks), re.DOTALL)


@pytest.mark.parametrize(
    ("text", "tex"),
    [
        (r"The roots are \( x_1 = 2 \) and \( x_2 = 3 \), so", [" x_1 = 2 ", " x_2 = 3 "]),
        (r"\[ x = \frac{-b \pm \sqrt{b^2-4ac}}{2a} \]", [r" x = \frac{-b \pm \sqrt{b^2-4ac}}{2a} "]),
        ("\\[\na\n= b\n\n- c\n\\]", ["\na\n= b\n\n- c\n"]),
        ("inline $a_1 + b_1$ done, the $n$th of $k$-means ($x$), *$y$*", ["a_1 + b_1", "n", "k", "x", "y"]),
        ("so $$E = mc^2$$ and\n$$\na\n$$", ["E = mc^2", "\na\n"]),
        ("- list\n\n  $$\n  a\n  $$\n- \\(b\\)\n> $$c$$", ["\na\n", "b", "c"]),
        ("\\[\na\n+ b\n\\], so\n\n> $$\n> a\n> - b\n> $$.", ["\na\n+ b\n", "\na\n- b\n"]),
        ("第$n$个，若$x_1>0$则$y$。 ש$z$ו", ["n", "x_1&gt;0", "y", "z"]),
        ("GitHub's $`a_1`$ and `b`", ["a_1"]),
        ("| $x$ | \\(y\\) |\n|---|---|\n| $2 \\times 3$ | $1$ |", ["x", "y", r"2 \times 3", "1"]),
    ],
)
def test_mathematics_is_drawn(render: Render, text: str, tex: list[str]) -> None:
    assert formulas(render(text)) == tex


@pytest.mark.parametrize(
    "text",
    [
        "$5 and $10",
        "from $5 to 10$, US$5/US$10, $5-$10, ($7)-($8), 5$ and 10$",
        "costs $1,000 (2019: $900), i.e. $20/month vs 30$/year",
        "echo $HOME/$USER:$PATH and a $",
        "`$x$` and `\\(y\\)`",
        "`a $5` and $6 `b$`; $HOME and `$PATH`; \\(x `\\)` and $$ `$$`",
        "人民币$5和$10，从$5到10$",
        "$$ is the process id.\n\nThe shell's own: $$",
        "```\n$$x$$\n\\[y\\]\n```",
        r"an open \( and \[ and $$ one",
        r"\begin{align} a \end{align} [ x ] ( y )",
        r"$$\notamacro{$$ stays as it is",
        r"escaped \$x\$ and \\(x\\)",
        "cp $FOO-$(date).txt ${a}-${b} $(FOO)/$(BAR) $$HOME/$$USER",
        "Pay $x/month (in US$).",
        "Pay $x (US$), or $y (5$).",
        "Ticker $AAPL closed at 190$.",
        "$500/$-5",
        "$ab/$; $PATH:$ and $a-$",
        "echo \"$FOO\" \"$bar\" '$x' and '$y' $? and $?",
        "set ${HOME}/bin$ and $MY_VAR to 5$",
        "$$HOME is set to $$",
        "The parent $$ and the child $$BASHPID",
        "$$HOME is a\nfolder of $$USER",
    ],
)
def test_text_that_is_not_mathematics_stays_text(render: Render, text: str) -> None:
    assert formulas(render(text)) == []


@pytest.mark.parametrize(
    "tex",
    [
        "x_1",
        "a+b",
        "(x+1)^2",
        r"\{a\}",
        "E=mc^2",
        "f(x)",
        "n = 5",
        "[0,1)",
        "x,y",
        "a/b",
        "n!",
        "f'",
        "-5",
        "+",
        "x^-",
        "|x|",
        "ABC",
        "{}^{14}C",
        r"{ab}^2 \cdot {c}_1",
        r"O(n \log n)",
        r"x \text{ if } y",
        r"\frac{total cost}{n}",
        "distance = speed * time",
        "P(A|B) = 0.5",
        r"f: A \to B",
        "x=1,",
        "2n",
    ],
)
def test_a_formula_between_single_dollars_is_drawn(render: Render, tex: str) -> None:
    assert [html.unescape(formula) for formula in formulas(render(f"so ${tex}$, and (${tex}$)-case"))] == [tex, tex]
    assert [html.unescape(formula) for formula in formulas(render(f"so $${tex}$$, and\n$${tex}$$"))] == [tex, tex]


@pytest.mark.parametrize(
    ("text", "block", "rest"),
    [
        ("\\[\na\n- b\n\\], so\n\nc", '<div class="phi3-math">', ['<p dir="auto">, so</p>', '<p dir="auto">c</p>']),
        ("$$a$$ is so\nand so", '<p dir="auto"><span', []),
    ],
)
def test_text_after_a_formula_is_kept(render: Render, text: str, block: str, rest: list[str]) -> None:
    first, *others = render(text)

    assert first.startswith(block)
    assert others == rest


def test_repeated_delimiters_do_not_block_the_page(render: Render) -> None:
    """A rule with cubic time took 20 s for this text, at every redraw."""
    assert len(render("\\[\n" * 2000)) == 1


@pytest.mark.parametrize("line", ["\\[ a", "\\[", "$$ a", "x \\[ \\\\]"])
@pytest.mark.parametrize("end", ["", "\n\n\\] $$ \\)"])
def test_unclosed_delimiters_are_searched_once(render: Render, line: str, end: str) -> None:
    """Each one used to search the rest of the text: six seconds for 8,000 lines, at every redraw."""
    assert render(f"{line}\n" * 10_000 + end)


def test_a_formula_that_katex_cannot_read_is_shown_as_written(render: Render) -> None:
    assert render(r"so \(\notamacro < 1\) it is") == [r'<p dir="auto">so \(\notamacro &lt; 1\) it is</p>']


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("If a < b && c > d; AT&T &amp; <b>x</b>", "If a &lt; b &amp;&amp; c &gt; d; AT&amp;T &amp; &lt;b&gt;x&lt;/b&gt;"),
        ("About ~100 of ~50, (~2000) ~/a ~/b ~one~ ~~two~~", "About ~100 of ~50, (~2000) ~/a ~/b ~one~ <s>two</s>"),
        ("a ~~~three~~~ ~~~~four~~~~ ~~b~~~ ~~d~~", "a ~~~three~~~ ~~~~four~~~~ ~~b~~~ <s>d</s>"),
        ("__init__.py a_b_c 2*3*4 \\*x\\*", "<strong>init</strong>.py a_b_c 2<em>3</em>4 *x*"),
        ("one\ntwo", "one<br>\ntwo"),
        ("[x](javascript:alert(1)) ![p](http://h/p.png)", "[x](javascript:alert(1)) <a LINK>p</a>"),
        ("www.example.com/a_(b), (https://a.b/c_d_e). x@y.org README.md", "<a LINK>www.example.com/a_(b)</a>, "
         "(<a LINK>https://a.b/c_d_e</a>). <a LINK>x@y.org</a> README.md"),
        ("_https://a.b/c_ ~~http://a.b~~ **www.a.bc**", "<em><a LINK>https://a.b/c</a></em> <s><a LINK>http://a.b</a></s> "
         "<strong><a LINK>www.a.bc</a></strong>"),
        ("http://a.b/c&lt; www.a.bc&amp;; https://a.b/?x&y; //a.bc/d www.a.bc，d", "<a LINK>http://a.b/c</a>&lt; "
         "<a LINK>www.a.bc</a>&amp;; <a LINK>https://a.b/?x</a>&amp;y; //a.bc/d <a LINK>www.a.bc</a>，d"),
    ],
)  # fmt: skip
def test_a_paragraph_is_parsed_as_on_github(render: Render, text: str, html: str) -> None:
    [block] = render(text)

    assert re.sub(r'<a href="[^"]+" target="_blank" rel="noopener noreferrer">', "<a LINK>", block) == (
        f'<p dir="auto">{html}</p>'
    )


def test_tables_tasks_and_code_in_lists(render: Render) -> None:
    table, tasks, steps = render(
        "| a | b |\n|:--|--:|\n| `x` | y |\n\n- [x] done\n- [ ] open\n\n1. so\n   ```py\n   x = 1\n   ```\n2. on"
    )

    assert table.startswith('<div class="phi3-table" dir="ltr" tabindex="0"><table dir="ltr">')
    assert '<td style="text-align:right" dir="auto">y</td>' in table
    boxes = [attributes for tag, attributes in _Html(tasks).elements if tag == "input"]
    assert ["checked" in box for box in boxes] == [True, False]
    assert "[" not in _Html(tasks).text
    assert _Html(steps).text.split() == ["sox", "=", "1", "on"]
    assert '<li>so<div class="phi3-code" dir="ltr" data-language="py"><pre' in steps


def test_each_block_has_its_own_direction(render: Render) -> None:
    hebrew, mixed, quote, table = render(
        "- שלום\n- [x] abc\n\n  1. עוד\n\nabc שלום\n\n> ‏123 שלום\n\n| שלום | b |\n|---|---|\n| 1 | 2 |"
    )

    # Items have no direction of their own: it could put the number on the side without padding.
    assert [
        (tag, attributes.get("dir")) for tag, attributes in _Html(hebrew).elements if tag in ("ul", "ol", "li")
    ] == [
        ("ul", "rtl"),
        ("li", None),
        ("li", None),
        ("ol", "rtl"),
        ("li", None),
    ]
    assert mixed.startswith('<p dir="auto">')
    assert quote.startswith('<blockquote dir="rtl">\n<p dir="auto">')
    assert table.startswith('<div class="phi3-table" dir="rtl" tabindex="0"><table dir="rtl">')
    assert '<th dir="auto">' in table
    numbers, hebrew = render("> 123\n\nשלום")
    assert (numbers, hebrew) == ('<blockquote>\n<p dir="auto">123</p>\n</blockquote>', '<p dir="auto">שלום</p>')
    assert render("`a` שלום") == ['<p dir="auto"><code dir="ltr">a</code> שלום</p>']


@pytest.mark.parametrize(("start", "room"), [(1, ""), (98, ""), (99, "4.5ch"), (999, "5.5ch"), (123456789, "10.5ch")])
def test_a_list_leaves_room_for_its_longest_number(render: Render, start: int, room: str) -> None:
    [block] = render(f"{start}. one\n{start + 1}. two")

    (_, attributes), *_ = _Html(block).elements
    assert attributes.get("style") == (f"padding-inline-start: {room}" if room else None)


_pieces = st.sampled_from(
    ["`", "```", "~~", "\n", "\n\n", "    ", "- ", "- [x] ", "> ", "# ", "| a |\n|--|\n", "1. ", "\\"]
)
_links = st.sampled_from(
    ["[a](", "![", "](", ")", "<http://", "javascript:", "data:text/html,", "file:///", "blob:http://", "www.", '"']
)
_texts = st.lists(_pieces | _links | hostile_texts, max_size=10).map("".join)


@given(_texts.filter(lambda text: "$" not in text and "\\(" not in text and "\\[" not in text))
def test_text_produces_only_the_html_of_markdown(render: Render, text: str) -> None:
    elements = [element for block in render(text) for element in _Html(block).elements]

    assert {tag for tag, _ in elements} <= _TAGS
    assert {name for _, attributes in elements for name in attributes} <= _ATTRIBUTES
    addresses = [attributes.get("href") or "" for _, attributes in elements]
    schemes = [
        found[1].lower() for address in addresses if (found := re.match(r"\s*([a-z][a-z\d+.-]*):", address, re.I))
    ]
    assert set(schemes) <= {"http", "https", "ftp", "mailto", "tel"}
    sources = [attributes["src"] or "" for tag, attributes in elements if tag == "img"]
    assert all(source.startswith("data:image/") for source in sources)


@given(_texts)
def test_every_block_is_one_element(render: Render, text: str) -> None:
    for block in render(text):
        assert re.fullmatch(r"<(\w+)[^>]*>(.*</\1>)?", block, re.DOTALL)
