from pathlib import Path

import pytest
import torch

from mgstudy.errors import InputError
from mgstudy.training.checkpoint import load_checkpoint, save_checkpoint


def test_a_state_comes_back_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "new" / "trainer.pt"
    save_checkpoint(path, {"epoch": 1})
    state = {"weights": {"a": torch.arange(3.0)}, "random": {"state": 2**127 + 1}, "best": None}
    save_checkpoint(path, state)
    loaded = load_checkpoint(path)
    assert torch.equal(loaded.pop("weights")["a"], torch.arange(3.0))
    assert loaded == {"random": {"state": 2**127 + 1}, "best": None}
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "trainer.pt"
    save_checkpoint(path, {"epoch": 1})
    with pytest.raises(Exception, match="lambda"):
        save_checkpoint(path, {"function": lambda: None})
    assert load_checkpoint(path) == {"epoch": 1}
    assert list(tmp_path.iterdir()) == [path]


class Intruder:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("1 + 1",)


@pytest.mark.parametrize("content", ["missing", "damaged", "empty", "code", "text", "other"])
def test_what_is_no_checkpoint_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "trainer.pt"
    if content == "damaged":
        save_checkpoint(path, {"weights": torch.ones(1000)})
        path.write_bytes(path.read_bytes()[:-2000])
    elif content == "empty":
        path.touch()
    elif content == "code":
        torch.save({"weights": Intruder()}, path)
    elif content == "text":
        path.write_text("epoch: 1")
    elif content == "other":
        torch.save(torch.ones(1), path)
    with pytest.raises(InputError, match=str(path)) as raised:
        load_checkpoint(path)
    assert "\n" not in str(raised.value)
