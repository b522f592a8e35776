"""Tags and topics in the order of the heads' rows, and which topics may go together."""

ENTITY_TYPES = ("PER", "ORG", "LOC", "MISC")
TAGS = ("O", *(f"{part}-{kind}" for kind in ENTITY_TYPES for part in "BI"))
TAG_IDS = {tag: index for index, tag in enumerate(TAGS)}
#: Tags that "O" may stand for where MISC was not annotated.
OUTSIDE_OR_MISC = (TAG_IDS["O"], TAG_IDS["B-MISC"], TAG_IDS["I-MISC"])

TOPICS = (
    "security",
    "crime_justice",
    "politics",
    "disaster",
    "economy",
    "education",
    "environment",
    "health",
    "human_interest",
    "labour",
    "lifestyle",
    "religion",
    "science_technology",
    "society",
    "sport",
    "weather",
    "arts_culture_entertainment",
)
TOPIC_IDS = {topic: index for index, topic in enumerate(TOPICS)}

#: Topics that an article under a single label may be about as well: there a missing topic is unknown, elsewhere negative.
RELATED = {
    "security": "politics crime_justice disaster society human_interest religion",
    "crime_justice": "security politics society human_interest economy",
    "politics": "security crime_justice economy education environment health labour religion society human_interest disaster "
    "science_technology",
    "disaster": "weather environment security human_interest health society",
    "economy": "politics labour science_technology environment society lifestyle crime_justice",
    "education": "politics society science_technology human_interest labour health religion",
    "environment": "politics science_technology weather disaster society economy health",
    "health": "science_technology society lifestyle human_interest politics education disaster environment sport",
    "human_interest": "society lifestyle arts_culture_entertainment crime_justice health education disaster religion sport",
    "labour": "economy politics society education human_interest",
    "lifestyle": "arts_culture_entertainment health human_interest society economy environment sport science_technology",
    "religion": "society politics human_interest education arts_culture_entertainment security",
    "science_technology": "economy health environment education lifestyle arts_culture_entertainment weather",
    "society": "politics human_interest education religion crime_justice health labour lifestyle arts_culture_entertainment",
    "sport": "human_interest health lifestyle society economy",
    "weather": "disaster environment science_technology",
    "arts_culture_entertainment": "human_interest lifestyle society religion politics science_technology",
}


def related(topic: str) -> set[str]:
    """Topics that may go with `topic`, in either direction. With one that a user added, any of the seventeen may."""
    if topic not in RELATED:
        return set(TOPICS)
    own = set(RELATED[topic].split())
    return own | {other for other, names in RELATED.items() if topic in names.split()}
