"""HistLLM on a language model of two layers that is made here."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from torch import Tensor

from mgstudy.config.document import Document
from mgstudy.config.pipeline import PipelineConfig
from mgstudy.data.dataset import Dataset
from mgstudy.data.prepare import prepare
from mgstudy.errors import InputError
from mgstudy.models.histllm import HistLLM
from mgstudy.models.language_models import (
    ANSWERS,
    BEFORE_ITEM,
    BEFORE_USER,
    QUESTION,
    RANDOM,
    load_language_model,
)
from mgstudy.report.console.plan import plan_content
from mgstudy.study.definition.study import Study, check_study
from mgstudy.workspace import Workspace

USERS, ITEMS = 12, 24


def save_tokenizer(folder: Path, words: dict[str, int]) -> None:
    """A tokenizer that knows these words and no others, as they stand in the text."""
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unknown>"))
    pattern = "|".join(map(_escaped, words))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Split(
        tokenizers.Regex(pattern), behavior="isolated"
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", unk_token="<unknown>"
    ).save_pretrained(folder)


def _escaped(word: str) -> str:
    return "".join(f"\\{mark}" if mark in "?[]<>()." else mark for mark in word)


@pytest.fixture
def toy_model(toy, tmp_path: Path) -> Path:
    """The language model of the specification's section S5.4."""
    folder = tmp_path / "toy"
    words = {
        "<unknown>": 0,
        "<s>": 1,
        BEFORE_ITEM: 2,
        " Yes": 3,
        " No": 4,
        BEFORE_USER: 5,
        QUESTION.removesuffix(" Answer:"): 6,
        " Answer:": 7,
    }
    save_tokenizer(folder, words | {f"[{token}]": token for token in range(8, 40)})
    network = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=40,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
            tie_word_embeddings=False,
        )
    )
    toy.filled(network.model.embed_tokens.weight, 100)
    for number, layer in enumerate(network.model.layers):
        attention, forward = layer.self_attn, layer.mlp
        maps = [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj]
        maps += [forward.gate_proj, forward.up_proj, forward.down_proj]
        for place, linear in enumerate(maps):
            toy.filled(linear.weight, 101 + 7 * number + place)
    toy.filled(network.lm_head.weight, 115)
    network.save_pretrained(folder)
    return folder


def word_of(token: int) -> str:
    named = {5: BEFORE_USER, 6: QUESTION.removesuffix(" Answer:"), 7: " Answer:"}
    return named.get(token, f"[{token}]")


def with_histories(dataset: Dataset) -> Dataset:
    """The toy dataset with the times and ratings of section S5.2, and the items' texts."""
    users, items = dataset.train.users, dataset.train.items
    train = replace(dataset.train, times=(7 * items + 3 * users + 2) % 31)
    texts = [
        word_of(5 + i % 7) + word_of(12 + 3 * i % 11) + word_of(23 + 5 * i % 13)
        for i in range(ITEMS)
    ]
    return replace(dataset, train=train, fingerprint="with times").with_texts({"title": texts})


def build(toy, folder: Path, **settings: Any) -> HistLLM:
    parameters = {
        "language_model": str(folder),
        "embedding_size": 8,
        "history_length": 3,
        "lora_dropout": 0.0,
        **settings,
    }
    torch.manual_seed(0)
    return HistLLM(with_histories(toy.dataset), HistLLM.Parameters(**parameters))


def fill(toy, model: HistLLM) -> list[Tensor]:
    """Give the parameters the values of section S5.4, and return them by their numbers."""
    cell = model.encoder.cell
    tensors = [
        *(model.picture_in.weight, model.picture_in.bias),
        *(model.picture_out.weight, model.picture_out.bias),
        *(model.item_map.weight, model.item_map.bias),
        *(cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh),
        *(model.user_map.weight, model.user_map.bias),
    ]
    for index, tensor in enumerate(tensors):
        toy.filled(tensor, index)
    with torch.no_grad():
        model.scale.fill_(0.5)
    return [*tensors, model.scale]


def answers(model: HistLLM, users: list[int], items: list[int]) -> Tensor:
    """The language model's answers, by the way that ranking takes."""
    everyone = torch.arange(USERS)
    model.eval()
    with torch.no_grad():
        pictures = model._pictures(torch.arange(ITEMS))
        vectors = model._vectors(torch.arange(ITEMS), pictures)
        tokens = model._user_tokens(model._users(vectors, everyone))
        return model.answers(torch.tensor(users), torch.tensor(items), tokens, pictures)


@pytest.mark.parametrize("tuning", ["lora", "frozen"])
def test_agrees_with_the_specification(toy, toy_model: Path, tuning: str) -> None:
    """Adapters change nothing before they are trained."""
    model = build(toy, toy_model, tuning=tuning, ranking="first_stage")
    tensors = fill(toy, model)
    model.train()
    loss = model.loss(toy.batch)
    assert loss.item() == pytest.approx(0.922651, abs=1e-5)
    loss.backward()
    expected = [
        0.28931, 0.074327, 0.11280, 0.014235, 0.091714, 0.017132, 0.092838, 0.020008, 0.022477,
        0.016264, 0.035606, 0.019070, 0.088757,
    ]  # fmt: skip
    norms = [tensor.grad.norm().item() for tensor in tensors]
    assert norms == pytest.approx(expected, rel=1e-4)

    found = answers(model, [0, 0, 0, 0, 3, 3, 3, 7, 7, 7], [0, 1, 2, 3, 0, 1, 2, 12, 22, 23])
    assert found.tolist() == pytest.approx(
        [0.730285, 0.948567, 0.427286, 0.173138, 0.728487, 0.935199, 0.440523, 0.696270, 0.714381,
         0.442990], abs=1e-4,
    )  # fmt: skip
    scores = model.scorer()(torch.arange(USERS)).detach()
    assert scores[0, :4].tolist() == pytest.approx(
        [-2.816862, -1.796916, -1.840259, -3.356620], abs=1e-5
    )
    assert scores[3, :3].tolist() == [0, 0, 0]
    assert scores[7, [12, 22, 23]].tolist() == pytest.approx(
        [-0.476477, -1.790871, -1.725230], abs=1e-5
    )


def test_what_is_read_once_for_all_users_gives_the_same_answers(toy, toy_model: Path) -> None:
    """Texts of unequal length, padded, with the items' part read once; and each alone."""
    dataset = with_histories(toy.dataset)
    texts = ["".join(word_of(8 + (i + k) % 30) for k in range(i % 5)) for i in range(ITEMS)]
    toy = replace(toy, dataset=dataset)
    model = build(toy, toy_model)
    other = HistLLM(dataset.with_texts({"title": texts}), model.settings)
    fill(toy, other)
    users, items = [0, 0, 7, 5, 3, 7], [4, 5, 5, 0, 23, 4]
    together = answers(other, users, items)
    alone = [answers(other, [u], [i]).item() for u, i in zip(users, items, strict=True)]
    assert together.tolist() == pytest.approx(alone, abs=1e-5)
    with torch.no_grad():
        pictures = other._pictures(torch.tensor(items))
        everything = torch.arange(ITEMS)
        vectors = other._vectors(everything, other._pictures(everything))
        tokens = other._user_tokens(other._users(vectors, torch.tensor(users)))
        whole = other._ask(torch.tensor(items), pictures, tokens)
    assert together.tolist() == pytest.approx(whole.tolist(), abs=1e-4)


def test_users_without_a_history_are_answered_alike_and_others_are_not(toy, toy_model) -> None:
    model = build(toy, toy_model)
    fill(toy, model)
    first, second, other = answers(model, [3, 9, 0], [7, 7, 7]).tolist()
    assert first == second != other


def test_no_is_the_opposite_of_yes(toy, toy_model: Path) -> None:
    model = build(toy, toy_model)
    fill(toy, model)
    before = answers(model, [0, 7], [1, 2])
    head = model.network.get_output_embeddings()
    head.weight.data = head.weight.data.flip(0)
    after = answers(model, [0, 7], [1, 2])
    head.weight.data = head.weight.data.flip(0)  # All models share it.
    torch.testing.assert_close(after, -before)


def test_candidates_come_first_in_the_order_of_the_language_model(toy, toy_model: Path) -> None:
    model, stage = (
        build(toy, toy_model, ranking=ranking, candidates=4)
        for ranking in ("candidates", "first_stage")
    )
    for each in (model, stage):
        fill(toy, each)
        each.eval()
    users = torch.tensor([7, 5, 0])  # What is held out is of users 0 and 7.
    with torch.no_grad():
        scores, first = model.scorer()(users), stage.scorer()(users)
    for row, user in enumerate(users.tolist()):
        seen = model.dataset.train.items[model.dataset.train.users == user]
        allowed = first[row].clone()
        allowed[seen] = -torch.inf
        candidates = allowed.argsort(descending=True)[:4].tolist()
        liked = answers(model, [user] * 4, candidates)
        wanted = [candidates[place] for place in liked.argsort(descending=True)]
        assert scores[row].argsort(descending=True)[:4].tolist() == wanted
        rest = [item for item in range(ITEMS) if item not in candidates]
        assert scores[row, rest].max() < 1
        order = first[row, rest].argsort(descending=True, stable=True)
        assert torch.equal(scores[row, rest].argsort(descending=True, stable=True), order)


def test_every_item_is_ranked_by_the_language_model_where_that_is_asked(toy, toy_model) -> None:
    model = build(toy, toy_model, ranking="all")
    fill(toy, model)
    model.eval()
    with torch.no_grad():
        scores = model.scorer()(torch.tensor([7, 0]))
    torch.testing.assert_close(scores[0], answers(model, [7] * ITEMS, list(range(ITEMS))))


@pytest.mark.parametrize("encoder", ["gru", "transformer", "mean"])
def test_every_encoder_reads_what_was_before_the_positive(toy, toy_model, encoder: str) -> None:
    """Histories of S5.2: that of user 2 is 17, 4, 10."""
    model = build(toy, toy_model, encoder=encoder)
    history, there = model._history(torch.tensor([2, 2]), torch.tensor([10, 17]))
    assert history[0][there[0]].tolist() == [17, 4]
    assert not there[1].any()
    read = model.encoder(torch.randn(2, 3, 8), there)
    assert read[0].any()
    assert not read[1].any()


def test_without_times_a_history_is_a_set_without_the_positive(toy, toy_model: Path) -> None:
    dataset = with_histories(toy.dataset).pairs_only()
    settings = {"language_model": str(toy_model), "embedding_size": 8, "history_length": 1}
    model = HistLLM(dataset, HistLLM.Parameters(**settings))
    history, there = model._history(torch.tensor([2]), torch.tensor([10]))
    assert set(history[there].tolist()) == {17, 4}
    assert not list(model.encoder.parameters())
    assert HistLLM.without_effect(dataset, {})["encoder"] == "mean"


def test_texts_alone_are_enough(toy, toy_model: Path) -> None:
    model = build(toy, toy_model, visual="none")
    model.loss(toy.batch).backward()
    assert model.item_map.in_features == 16
    with pytest.raises(InputError, match="no modality 'sound'; it has image, text"):
        build(toy, toy_model, visual="sound")
    with pytest.raises(InputError, match="no text 'plot'; it has title"):
        build(toy, toy_model, text="plot")


def test_trials_of_a_process_share_the_language_model(toy, toy_model: Path) -> None:
    one, other = build(toy, toy_model), build(toy, toy_model)
    table = one.network.get_input_embeddings().weight
    assert table.data_ptr() == other.network.get_input_embeddings().weight.data_ptr()
    trained = {name for name, w in one.named_parameters() if w.requires_grad}
    assert sum("lora" in name for name in trained) == 8
    assert not any(name.startswith("network") and "lora" not in name for name in one.state_dict())


def test_who_reads_the_language_model_has_the_numbers_of_who_finds_it_read(toy) -> None:
    load_language_model.cache_clear()
    one, other = (build(toy, Path(RANDOM)).state_dict() for _ in range(2))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


class TestRefusals:
    def test_a_dataset_without_texts(self, toy) -> None:
        reason = HistLLM.refusal(toy.dataset)
        assert reason is not None
        assert "needs texts of items, dataset 'toy' has none" in reason

    def test_a_tokenizer_of_two_tokens(self, toy, toy_model: Path, tmp_path: Path) -> None:
        for path in toy_model.iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        words = {"<unknown>": 0, "<s>": 1, "Y": 2, "e": 3, "s": 4, "N": 5, "o": 6, " ": 7}
        save_tokenizer(tmp_path, words)
        with pytest.raises(InputError, match="no single tokens for 'Yes' and 'No'"):
            build(toy, tmp_path)

    @pytest.mark.parametrize("name", ["./nowhere", "model.gguf", "one/two/three"])
    def test_a_model_that_is_not_there(self, toy, name: str) -> None:
        with pytest.raises(InputError, match="convert-language-model"):
            load_language_model(name)

    def test_weights_that_may_hold_code(self, toy_model: Path, tmp_path: Path) -> None:
        for path in toy_model.iterdir():
            if path.suffix != ".safetensors":
                (tmp_path / path.name).write_bytes(path.read_bytes())
        torch.save({}, tmp_path / "pytorch_model.bin")
        with pytest.raises(InputError, match="cannot be loaded as a causal language model"):
            load_language_model(str(tmp_path))

    def test_code_of_its_own(self, toy_model: Path, tmp_path: Path) -> None:
        for path in toy_model.iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        ran = tmp_path / "ran"
        (tmp_path / "its_own.py").write_text(f"open({str(ran)!r}, 'w')", "utf-8")
        config = (tmp_path / "config.json").read_text("utf-8")
        own = '{"auto_map": {"AutoModelForCausalLM": "its_own.Model", "AutoConfig": "its_own.C"},'
        config = config.replace("{", own, 1).replace('"model_type": "llama"', '"model_type": "own"')
        (tmp_path / "config.json").write_text(config, "utf-8")
        with pytest.raises(InputError, match="cannot be loaded"):
            load_language_model(str(tmp_path))
        assert not ran.exists()

    def test_a_missing_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "peft", None)
        with pytest.raises(InputError, match=r"needs peft; .* 'mgstudy\[llm\]'"):
            load_language_model("./elsewhere")


def test_the_cost_is_said(toy, toy_model: Path) -> None:
    """A question has 2 + 3 positions before the picture, which with the user's name and token and
    the question makes 10."""
    dataset = with_histories(toy.dataset)
    parameters = HistLLM.Parameters(language_model=str(toy_model), candidates=5)
    said = HistLLM.cost(dataset, parameters, pairs=100)
    assert said is not None
    assert "200 prompts of 10 positions" in said
    assert "10 questions" in said  # Two users, five candidates each.


def test_answers_are_words(toy_model: Path) -> None:
    language = load_language_model(str(toy_model))
    assert language.answers == (3, 4)
    assert language.literals() == ([1, 2], [5], [6, 7])
    assert ANSWERS == ("Yes", "No")
    assert np.isclose(
        language.parameter_count, 2 * (16 * 16 * 2 + 16 * 8 * 2 + 3 * 16 * 32 + 32) + 48
    )


class TestPlan:
    """What `mgstudy plan` says of a study with it."""

    PIPELINE: ClassVar[dict[str, Any]] = {
        "name": "words",
        "source": {
            "kind": "synthetic",
            "users": 30,
            "items": 40,
            "interactions_per_user": 8,
            "modalities": {"image": {"width": 6}},
        },
        "texts": {"description": {"template": "{title}"}},
    }

    def read(self, home: Path, language_model: str, **pipeline: Any) -> Study:
        workspace = Workspace.resolve(home)
        prepare(PipelineConfig.model_validate({**self.PIPELINE, **pipeline}), workspace)
        content = {
            "name": "asked",
            "factors": {"dataset": ["words"], "model": ["HistLLM"]},
            "space": {"model": {"language_model": language_model, "embedding_size": 8}},
            "trials": 1,
            "training": {"rows_per_epoch": 50, "epochs": 1},
        }
        return check_study(Document("asked.yaml", content), workspace)

    def test_says_the_cost_and_that_there_is_no_order(self, tmp_path: Path) -> None:
        content = plan_content(self.read(tmp_path, RANDOM), measure=False)
        order, cost = content["notes"]
        assert "words has no times: HistLLM reads each user's history as a set" in order
        assert "HistLLM on words: 100 prompts" in cost

    @pytest.mark.parametrize("language_model", ["./nowhere", "./model.gguf"])
    def test_refuses_a_model_that_is_not_there(self, tmp_path: Path, language_model: str) -> None:
        with pytest.raises(InputError, match=r"asked\.yaml.*no such folder") as refused:
            self.read(tmp_path, language_model)
        assert "\n" not in str(refused.value)

    def test_leaves_out_a_dataset_without_texts(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no combination can be trained: HistLLM needs texts"):
            self.read(tmp_path, RANDOM, texts={})
