"""Words and sentences of a text, near to those of serving."""

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


def words(text: str) -> list[tuple[int, int]]:
    """Words of a text as character ranges; near to `src/text/words.rs`, and only used to place labels."""
    return [match.span() for match in WORD.finditer(text)]


def sentences(text: str) -> list[tuple[int, int]]:
    """Sentences as character ranges that cover the text."""
    cuts = [0, *(match.end() for match in SENTENCE_END.finditer(text))]
    if cuts[-1] != len(text):
        cuts.append(len(text))
    return list(itertools.pairwise(cuts))
