"""Natural text from the tokens of an annotated sentence: the rules of `src/eval/detokenize.rs`, which says and numbers them.

`tests/data/detokenize.json` holds both sides to the same examples.
"""

OPENING = "([{（「『【《〈〔¿¡“‘„‚«‹"
CLOSING = ".,;:!?…)]}）」』】》〉〕”’»›。、，．：；！？،؛؟۔।॥።፣፤፥፦፧"
ELIDING = {"ca", "es", "fr", "it", "oc", "pt", "yo"}
HYPHEN_APART = {"ha", "he", "hi", "ig", "lg", "ne", "pcm", "rw", "sn", "sw", "ur", "wo", "xh", "yo", "zu"}
PERCENT_APART = {"cs", "da", "de", "fi", "fr", "lv", "nb", "nn", "no", "sk", "sv"}
CLITICS = {"'s", "'m", "'re", "'ll", "'ve", "'d", "n't"}
DOLLARS = {"A", "C", "HK", "NZ", "R", "US"}
DOUBLE = {"``": '"', "''": '"', '""""': '"'}

Hold = tuple[bool, bool]
"""Whether a token holds on to the left, and to the right."""
NEITHER, LEFT, RIGHT, BOTH = (False, False), (True, False), (False, True), (True, True)


def natural(tokens: list[str], language: str, space_after: list[bool] | None, join: str) -> tuple[str, list[tuple[int, int]]]:
    """The text of a sentence, and each token's character range in it."""
    by_rules = space_after is None and bool(join)
    held = holds(tokens, language) if by_rules else []
    text = ""
    spans = []
    for index, token in enumerate(tokens):
        if index == 0:
            space = False
        elif space_after is not None:
            space = space_after[index - 1] if index - 1 < len(space_after) else True
        else:
            space = by_rules and not held[index - 1][1] and not held[index][0]
        if space:
            text += " "
        written = DOUBLE.get(token, token) if by_rules else token
        spans.append((len(text), len(text) + len(written)))
        text += written
    return text, spans


def holds(tokens: list[str], language: str) -> list[Hold]:
    """By token: to which sides it holds on."""
    quotes = Quotes()
    found = []
    for index, token in enumerate(tokens):
        before = tokens[index - 1] if index else ""
        after = tokens[index + 1] if index + 1 < len(tokens) else ""
        found.append(quotes.hold(token, before, after, language) or hold(token, before, after, language))
    return found


class Quotes:
    """Which quotation marks are open: rules 1 to 4."""

    def __init__(self) -> None:
        self.open: set[str] = set()

    def hold(self, token: str, before: str, after: str, language: str) -> Hold | None:  # noqa: PLR0911
        """None for what is no quotation mark."""
        ends = not after or all_in(after, CLOSING)
        if token == "``":
            return self.opened('"')
        if DOUBLE.get(token, token) == '"':
            return self.straight('"', bool(before) and ends)
        if token == "'":
            possessive = language in ("en", "pcm") and before.endswith(("s", "S"))
            return self.straight("'", bool(before) and (ends or possessive))
        if token in ("«", "»"):
            return self.guillemet(token, ends, language)
        if token in ("„", "‚"):
            return self.opened(token)
        if token in ("“", "‘"):
            low = "„" if token == "“" else "‚"
            return self.closed(low) if low in self.open else RIGHT
        if token == "”":
            if "”" not in self.open and language in ("fi", "sv") and not ends:
                return self.opened("”")
            return self.closed("”")
        return None

    def guillemet(self, token: str, ends: bool, language: str) -> Hold:
        """Rule 3."""
        if language == "fr":
            return NEITHER
        either = "«" in self.open or "»" in self.open
        opens = "»" not in self.open if token == "«" else not either and language in ("da", "de") and not ends
        self.open -= {"«", "»"}
        return self.opened(token) if opens else LEFT

    def straight(self, mark: str, closes: bool) -> Hold:
        """A mark that is the same on both sides; `closes` if it cannot open."""
        return self.closed(mark) if mark in self.open or closes else self.opened(mark)

    def opened(self, mark: str) -> Hold:
        """Opens."""
        self.open.add(mark)
        return RIGHT

    def closed(self, mark: str) -> Hold:
        """Closes."""
        self.open.discard(mark)
        return LEFT


def hold(token: str, before: str, after: str, language: str) -> Hold:  # noqa: PLR0911, PLR0912
    """Rules 5 to 14."""
    if is_clitic(token, before, language):
        return LEFT
    if is_elided(token, language):
        return RIGHT
    if token == "$" and before in DOLLARS and after[:1].isnumeric():
        return BOTH
    if token in ("$", "£", "€", "¥", "₹", "₦"):
        return RIGHT if after[:1].isnumeric() else NEITHER
    if token in ("#", "@"):
        return RIGHT if after[:1].isalnum() else NEITHER
    if token in ("%", "‰") and language in PERCENT_APART:
        return NEITHER
    if token in ("%", "‰", "٪", "°"):
        return LEFT if before[-1:].isnumeric() else NEITHER
    if token in ("/", "־"):
        return BOTH if before and after else NEITHER
    if token in ("-", "–", ".", ":") and is_digits(before) and is_digits(after):
        return BOTH
    if token == "," and before.isnumeric() and after.isnumeric() and 1 <= len(before) <= 3 and len(after) == 3:
        return BOTH
    if token == "-" and language in HYPHEN_APART:
        return BOTH if before[-1:].isalnum() and after[:1].isalnum() else NEITHER
    if token == "&":
        return BOTH if is_capital(before) and is_capital(after) else NEITHER
    if all_in(token, OPENING):
        return RIGHT
    if all_in(token, CLOSING):
        return NEITHER if language == "fr" and any(c in token for c in ";:!?") else LEFT
    return NEITHER


def is_clitic(token: str, before: str, language: str) -> bool:
    """Rule 5."""
    plain = token.lower().replace("’", "'")
    suffix = plain[1:] if plain.startswith("'") else ""
    turkish = language == "tr" and suffix.isalpha() and token[1].islower()
    return before[-1:].isalnum() and (plain in CLITICS or turkish)


def is_elided(token: str, language: str) -> bool:
    """Rule 6."""
    stem = token[:-1] if token.endswith(("'", "’")) else ""
    accent = language == "it" and stem in ("po", "Po", "e", "E")
    return language in ELIDING and stem.isalpha() and not accent


def all_in(token: str, marks: str) -> bool:
    """Whether a token is nothing but such marks."""
    return bool(token) and all(c in marks for c in token)


def is_digits(token: str) -> bool:
    """Whether a token begins and ends with a digit."""
    return token[:1].isnumeric() and token[-1:].isnumeric()


def is_capital(token: str) -> bool:
    """Whether a token is one capital."""
    return len(token) == 1 and token.isupper()
