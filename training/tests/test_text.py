from rasid_training.text import natural, sentences, words


def test_punctuation_closes_up_to_its_neighbours():
    text, spans = natural(["He", "said", ":", '"', "Go", "(", "now", ")", '"', ",", "twice", "."], None, " ")
    assert text == 'He said: "Go (now)", twice.'
    assert [text[s:e] for s, e in spans][4] == "Go"


def test_arabic_marks_close_up():
    assert natural(["وصل", "الوفد", "،", "ثم", "غادر", "؟"], None, " ")[0] == "وصل الوفد، ثم غادر؟"


def test_given_spacing_is_kept():
    assert natural(["a", "-", "b", "c"], [False, False, True, True], " ")[0] == "a-b c"


def test_characters_are_joined():
    assert natural(list("東京で"), None, "")[0] == "東京で"


def test_words_keep_hyphens_and_part_characters_of_unspaced_scripts():
    text = "al-Hakim (U.S.) 東京, Ankara'da"
    assert [text[s:e] for s, e in words(text)] == ["al-Hakim", "(", "U.S", ".", ")", "東", "京", ",", "Ankara'da"]


def test_sentences_cover_the_text():
    text = "Gen. Smith came. He left!\nوصل الوفد؟ نعم."
    parts = [text[s:e] for s, e in sentences(text)]
    assert "".join(parts) == text
    assert parts == ["Gen. Smith came. ", "He left!\n", "وصل الوفد؟ ", "نعم."]
