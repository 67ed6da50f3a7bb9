"""Word-level diff of two texts. Pure.

diff-match-patch is not used: it splits unrelated answers into over 1,000 pieces (here about 50), takes up to 200 ms for them
(here 3 ms), and past its time limit its result depends on the machine's load.
"""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import Literal

Kind = Literal["same", "only_left", "only_right"]
DiffPiece = tuple[Kind, str]

_WORD = re.compile(r"(\s*)(\w+|[^\w\s]|\Z)")
"""A word or one other character, with the whitespace before it; at the end, possibly only whitespace."""

_MAX_PRODUCT = 500 * 500
"""Words on the left times words on the right that difflib compares in one call: its time is quadratic, at worst cubic."""
_MAX_PRODUCTS = 4 * _MAX_PRODUCT
"""The limit for all stretches together: a stretch of a few repeated words takes a second."""

_Match = tuple[int, int, int]  # start on the left, start on the right, length in words


def word_diff(left: str, right: str) -> list[DiffPiece]:
    """Return the pieces of both texts in order, none empty, no kind twice in a row.

    `same` and `only_left` joined are `left`, `same` and `only_right` joined are `right`. Long texts are compared between
    words that occur exactly once in both; a long stretch without one counts as changed, and so does what follows many of them.
    """
    left_tokens, right_tokens = _WORD.findall(left), _WORD.findall(right)
    matches = _find_matches([word for _, word in left_tokens], [word for _, word in right_tokens])
    return list(_merge(_split(left_tokens, right_tokens, matches)))


def measure_overlap(left: list[str], right: list[str]) -> float:
    """Return the share of the words of both lists that match in order, 0 to 1; 1 for two empty lists.

    It is difflib's ratio, `2 * matching / all words`; for long lists, of the matches that `word_diff` finds in bounded time.
    """
    if len(left) * len(right) <= _MAX_PRODUCT:
        return SequenceMatcher(None, left, right, autojunk=False).ratio()
    return 2 * sum(length for _, _, length in _find_matches(left, right)) / (len(left) + len(right))


def _find_matches(left: list[str], right: list[str]) -> Iterator[_Match]:
    """Yield the matches in order. Common prefix and suffix are found without difflib."""
    start = _common_prefix_len(left, right)
    end = _common_prefix_len(left[start:][::-1], right[start:][::-1])
    left_end, right_end = len(left) - end, len(right) - end
    yield 0, 0, start
    if (left_end - start) * (right_end - start) <= _MAX_PRODUCT:
        yield from _compare(left, right, (start, left_end), (start, right_end))
    else:
        left_pos = right_pos = start
        products = _MAX_PRODUCTS
        anchors = _find_anchors(left[start:left_end], right[start:right_end])
        for left_anchor, right_anchor in [*((a + start, b + start) for a, b in anchors), (left_end, right_end)]:
            product = (left_anchor - left_pos) * (right_anchor - right_pos)
            if product <= min(_MAX_PRODUCT, products):
                products -= product
                yield from _compare(left, right, (left_pos, left_anchor), (right_pos, right_anchor))
            if left_anchor < left_end:
                yield left_anchor, right_anchor, 1
            left_pos, right_pos = left_anchor + 1, right_anchor + 1
    yield left_end, right_end, end


def _common_prefix_len(left: Sequence[str], right: Sequence[str]) -> int:
    pairs = enumerate(zip(left, right, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(left), len(right)))


def _compare(
    left: list[str], right: list[str], left_range: tuple[int, int], right_range: tuple[int, int]
) -> Iterator[_Match]:
    matcher = SequenceMatcher(None, left[slice(*left_range)], right[slice(*right_range)], autojunk=False)
    for left_start, right_start, length in matcher.get_matching_blocks():
        yield left_start + left_range[0], right_start + right_range[0], length


def _find_anchors(left: list[str], right: list[str]) -> list[tuple[int, int]]:
    """Return the positions of words that occur once on each side: the longest run in the same order on both."""
    unique = {word for word, count in Counter(left).items() if count == 1}
    unique &= {word for word, count in Counter(right).items() if count == 1}
    right_positions = {word: index for index, word in enumerate(right) if word in unique}
    pairs = [(index, right_positions[word]) for index, word in enumerate(left) if word in unique]
    ends, lengths = list[int](), list[int]()  # the lowest end of a run of each length; the longest run up to each pair
    for _, position in pairs:
        length = bisect_left(ends, position)
        ends[length : length + 1] = [position]
        lengths.append(length)
    anchors, wanted = list[tuple[int, int]](), len(ends) - 1
    for pair, length in zip(reversed(pairs), reversed(lengths), strict=True):
        if length == wanted and (not anchors or pair[1] < anchors[-1][1]):
            anchors.append(pair)
            wanted -= 1
    return anchors[::-1]


def _split(
    left_tokens: list[tuple[str, str]], right_tokens: list[tuple[str, str]], matches: Iterable[_Match]
) -> Iterator[DiffPiece]:
    """Split both texts at the matches, the last of which ends both."""
    left_pos = right_pos = 0
    for left_start, right_start, length in matches:
        yield "only_left", "".join(space + word for space, word in left_tokens[left_pos:left_start])
        yield "only_right", "".join(space + word for space, word in right_tokens[right_pos:right_start])
        left_pos, right_pos = left_start + length, right_start + length
        pairs = zip(left_tokens[left_start:left_pos], right_tokens[right_start:right_pos], strict=True)
        for (left_space, word), (right_space, _) in pairs:
            if left_space == right_space:
                yield "same", left_space + word
            else:
                yield from (("only_left", left_space), ("only_right", right_space), ("same", word))


def _merge(pieces: Iterable[DiffPiece]) -> Iterator[DiffPiece]:
    """Merge consecutive pieces of one kind; between two `same` pieces, the left's changes come first."""
    texts: dict[Kind, str] = {"same": "", "only_left": "", "only_right": ""}
    for kind, text in pieces:
        if not text:
            continue
        preceding: tuple[Kind, ...] = ("only_left", "only_right") if kind == "same" else ("same",)
        if any(texts[other] for other in preceding):
            yield from _flush(texts)
        texts[kind] += text
    yield from _flush(texts)


def _flush(texts: dict[Kind, str]) -> Iterator[DiffPiece]:
    for kind, text in texts.items():
        if text:
            yield kind, text
            texts[kind] = ""
