import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rasid_training.average import average


def test_weights_lie_between_those_of_both(tmp_path):
    save_file({"w": np.array([0.0, 4.0], np.float16)}, tmp_path / "a")
    save_file({"w": np.array([1.0, 0.0], np.float32)}, tmp_path / "b")
    average(tmp_path / "a", tmp_path / "b", 0.25, tmp_path / "c")
    made = load_file(tmp_path / "c")["w"]
    assert made.dtype == np.float32
    assert made.tolist() == [0.25, 3.0]


def test_what_cannot_be_averaged_is_refused(tmp_path):
    save_file({"w": np.zeros(2, np.float32)}, tmp_path / "a")
    save_file({"w": np.zeros(3, np.float32)}, tmp_path / "b")
    with pytest.raises(ValueError, match="not of one shape: w"):
        average(tmp_path / "a", tmp_path / "b", 0.5, tmp_path / "c")
    with pytest.raises(ValueError, match=r"--share is 1\.5"):
        average(tmp_path / "a", tmp_path / "a", 1.5, tmp_path / "c")
    assert not (tmp_path / "c").exists()
