import itertools
from pathlib import Path

import pytest

from rasid_training import mixture

CONFIGS = Path(__file__).parents[1] / "configs"


def test_a_configuration_like_another_changes_some_of_its_values(tmp_path):
    (tmp_path / "one.toml").write_text("seed = 1\nrate = 0.5\n[passes]\nner = 1\nsib = 2\n")
    (tmp_path / "two.toml").write_text('like = "one.toml"\nseed = 2\n[passes]\nsib = 3\n[weights]\nsib = 4\n')
    assert mixture.read_config(tmp_path / "two.toml") == {
        "seed": 2,
        "rate": 0.5,
        "passes": {"ner": 1, "sib": 3},
        "weights": {"sib": 4},
    }


@pytest.mark.parametrize("path", sorted(CONFIGS.iterdir()), ids=lambda path: path.stem)
def test_every_configuration_is_whole_and_has_a_seed_of_its_own(path):
    configs = [mixture.read_config(path) for path in CONFIGS.iterdir()]
    assert mixture.read_config(path).keys() >= mixture.read_config(CONFIGS / "open.toml").keys()
    assert all(one["seed"] != other["seed"] for one, other in itertools.combinations(configs, 2))
