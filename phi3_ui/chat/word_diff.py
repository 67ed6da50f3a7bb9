"""What two texts share and where they differ, word by word. Pure."""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import Literal

Kind = Literal["same", "only_left", "only_right"]
DiffPiece = tuple[Kind, str]

# A word or one other sign, with the white space before it; at the end there may be white space alone.
_WORD = re.compile(r"(\s*)(\w+|[^\w\s]|\Z)")

# Words on the left times words on the right that difflib compares at once: its time grows with the square of them, and
# in texts made for that with the cube.
_AT_ONCE = 500 * 500

_Match = tuple[int, int, int]  # where on the left, where on the right, how many words


def word_diff(left: str, right: str) -> list[DiffPiece]:
    """The pieces of both texts in order, none empty, no kind twice in a row.

    `same` and `only_left` joined give `left`, `same` and `only_right` joined give `right`. Long texts are compared from
    one word that both hold once to the next; what is long and has none in it counts as changed whole.
    """
    lefts, rights = _WORD.findall(left), _WORD.findall(right)
    matches = _matches([word for _, word in lefts], [word for _, word in rights])
    return list(_merged(_pieces(lefts, rights, matches)))


def _matches(left: list[str], right: list[str]) -> Iterator[_Match]:
    """What is the same at both ends is found without difflib; for the rest see `word_diff`."""
    start = _shared(left, right)
    end = _shared(left[start:][::-1], right[start:][::-1])
    last_left, last_right = len(left) - end, len(right) - end
    yield 0, 0, start
    if (last_left - start) * (last_right - start) <= _AT_ONCE:
        yield from _compared(left, right, (start, last_left), (start, last_right))
    else:
        at_left = at_right = start
        anchors = _anchors(left[start:last_left], right[start:last_right])
        for one, other in [*((a + start, b + start) for a, b in anchors), (last_left, last_right)]:
            if (one - at_left) * (other - at_right) <= _AT_ONCE:
                yield from _compared(left, right, (at_left, one), (at_right, other))
            if one < last_left:
                yield one, other, 1
            at_left, at_right = one + 1, other + 1
    yield last_left, last_right, end


def _shared(left: Sequence[str], right: Sequence[str]) -> int:
    """How many words both begin with."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((at for at, (one, other) in pairs if one != other), min(len(left), len(right)))


def _compared(left: list[str], right: list[str], here: tuple[int, int], there: tuple[int, int]) -> Iterator[_Match]:
    matcher = SequenceMatcher(None, left[slice(*here)], right[slice(*there)], autojunk=False)
    for a, b, size in matcher.get_matching_blocks():
        yield a + here[0], b + there[0], size


def _anchors(left: list[str], right: list[str]) -> list[tuple[int, int]]:
    """Where the words stand that both sides hold once: the most of them that are in the same order on both."""
    once = {word for word, count in Counter(left).items() if count == 1}
    once &= {word for word, count in Counter(right).items() if count == 1}
    places = {word: at for at, word in enumerate(right) if word in once}
    pairs = [(at, places[word]) for at, word in enumerate(left) if word in once]
    ends, lengths = list[int](), list[int]()  # the least end of a run of each length; the longest run up to each pair
    for _, place in pairs:
        length = bisect_left(ends, place)
        ends[length : length + 1] = [place]
        lengths.append(length)
    found, wanted = list[tuple[int, int]](), len(ends) - 1
    for pair, length in zip(reversed(pairs), reversed(lengths), strict=True):
        if length == wanted and (not found or pair[1] < found[-1][1]):
            found.append(pair)
            wanted -= 1
    return found[::-1]


def _pieces(
    lefts: list[tuple[str, str]], rights: list[tuple[str, str]], matches: Iterable[_Match]
) -> Iterator[DiffPiece]:
    at_left = at_right = 0
    for here, there, size in matches:
        yield "only_left", "".join(space + word for space, word in lefts[at_left:here])
        yield "only_right", "".join(space + word for space, word in rights[at_right:there])
        at_left, at_right = here + size, there + size
        for (space, word), (other, _) in zip(lefts[here:at_left], rights[there:at_right], strict=True):
            if space == other:
                yield "same", space + word
            else:
                yield from (("only_left", space), ("only_right", other), ("same", word))
    # The last match ends both: its words are at the ends.


def _merged(pieces: Iterable[DiffPiece]) -> Iterator[DiffPiece]:
    """Neighbours of one kind as one piece; of what changed between two that are the same, the left comes first."""
    texts: dict[Kind, str] = {"same": "", "only_left": "", "only_right": ""}
    for kind, text in pieces:
        if not text:
            continue
        before: tuple[Kind, ...] = ("only_left", "only_right") if kind == "same" else ("same",)
        if any(texts[one] for one in before):
            yield from _taken(texts)
        texts[kind] += text
    yield from _taken(texts)


def _taken(texts: dict[Kind, str]) -> Iterator[DiffPiece]:
    for kind, text in texts.items():
        if text:
            yield kind, text
            texts[kind] = ""
