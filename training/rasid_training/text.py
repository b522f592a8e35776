"""Natural text from tokens, words and sentences as serving sees them."""

import bisect
import itertools

import regex

#: Written without spaces between words: characters are words there.
UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}ー々"
WORD = regex.compile(
    rf"[{UNSPACED}]\p{{M}}*"
    rf"|[\p{{L}}\p{{N}}--[{UNSPACED}]](?:[\p{{L}}\p{{N}}\p{{M}}\u200c\u200d--[{UNSPACED}]]"
    r"|[-\u2010\u2011_&@·־׳.'’ʼ״\"](?=[\p{L}\p{N}]))*"
    r"|[^\s\p{Cc}\p{Cf}]\p{M}*",
    regex.V1,
)
SENTENCE_END = regex.compile(
    r"(?<!\b\p{Lu})(?<!\b(?:Mr|Dr|St|Ms|Mrs|Gen|Col|Lt|Sen|Prof|No))[.!?؟۔।॥።]+[\"'”’»)\]]*\s+|[。！？]+[」』”]?|\n+"
)

CLOSING = set(".,;:!?%)]}»”’…،؛؟۔।॥。、，；：！？）】」』》٪")
OPENING = set("([{«“‘¿¡（【「『《„")


def words(text: str) -> list[tuple[int, int]]:
    """Words of a text as character ranges; near to `src/text/words.rs`, and only used to place labels."""
    return [match.span() for match in WORD.finditer(text)]


def sentences(text: str) -> list[tuple[int, int]]:
    """Sentences as character ranges that cover the text."""
    cuts = [0, *(match.end() for match in SENTENCE_END.finditer(text))]
    if cuts[-1] != len(text):
        cuts.append(len(text))
    return list(itertools.pairwise(cuts))


def natural(tokens: list[str], space_after: list[bool] | None, join: str) -> tuple[str, list[tuple[int, int]]]:
    """Natural text of a tokenised sentence, and each token's character range in it.

    `space_after` is taken as given; else punctuation closes up to its neighbours, quotation marks are paired, and where `join`
    is empty (tokens are characters) only neighbouring Latin words are kept apart.
    """
    parts: list[str] = []
    spans: list[tuple[int, int]] = []
    length = 0
    glue = True
    quote_open = False
    for index, token in enumerate(tokens):
        if space_after is not None:
            space = index > 0 and space_after[index - 1]
        elif not join:
            space = False
        else:
            closes = token[0] in CLOSING or token in ("'s", "n't", "'re", "'ll", "'ve", "'m", "'d")
            if token == '"':
                closes = quote_open
            space = index > 0 and not glue and not closes
        if space:
            parts.append(" ")
            length += 1
        spans.append((length, length + len(token)))
        parts.append(token)
        length += len(token)
        if token == '"':
            quote_open = not quote_open
            glue = quote_open
        else:
            glue = token in OPENING
    return "".join(parts), spans


def snap(spans: list[tuple[int, int, int]], start: int, end: int) -> list[tuple[int, int, int]]:
    """Spans that lie within a range, moved to begin at its start."""
    first = bisect.bisect_left(spans, (start,))
    inside = []
    for span in spans[first:]:
        if span[0] >= end:
            break
        if span[1] <= end:
            inside.append((span[0] - start, span[1] - start, span[2]))
    return inside
