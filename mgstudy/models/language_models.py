"""Causal language models as parts of a recommender: found, loaded without running any code of
theirs, and asked a question with two answers."""

from __future__ import annotations

import copy
import functools
import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from mgstudy.errors import InputError
from mgstudy.features.hub import from_hub
from mgstudy.files import absolute, sha256_of
from mgstudy.limits import limit, more_than
from mgstudy.urls import first_line

Precision: TypeAlias = Literal["float32", "bfloat16"]

RANDOM = "random"
"""Names a language model of a few thousand random weights: for trying out, and as a control."""
BEFORE_ITEM, BEFORE_USER = "Item: ", "\nUser: "
QUESTION = "\nDoes the user like the item? Answer:"
ANSWERS = ("Yes", "No")
FILES = ("*.json", "*.txt", "*.safetensors", "*.model")
"""Of a language model's folder, what is read: weights are safetensors, and nothing is code."""


@dataclass(frozen=True)
class LanguageModel:
    """A frozen causal language model that says yes or no, shared by all trials of a process.

    Attributes:
        network: A ``PreTrainedModel`` whose head has two rows, those of "Yes" and "No".
        tokenizer: Its ``PreTrainedTokenizer``.
        fingerprint: Of the files that it was read from.
        answers: The tokens of "Yes" and "No".
    """

    network: Any
    tokenizer: Any
    fingerprint: str
    answers: tuple[int, int]

    @property
    def table(self) -> Tensor:
        """The embeddings of the tokens, shape ``[tokens, width]``."""
        weight: Tensor = self.network.get_input_embeddings().weight
        return weight

    @property
    def parameter_count(self) -> int:
        """Weights that compute something for every position: all but the embeddings."""
        every: int = sum(weight.numel() for weight in self.network.parameters())
        return every - self.table.numel()

    def literals(self) -> tuple[list[int], list[int], list[int]]:
        """The tokens before the item, with the one that begins a text if there is such; before the
        user; and of the question."""
        before_item, before_user, question = self.encode([BEFORE_ITEM, BEFORE_USER, QUESTION])
        first = self.tokenizer.bos_token_id
        return ([] if first is None else [int(first)]) + before_item, before_user, question

    def encode(self, texts: Sequence[str], most: int | None = None) -> list[list[int]]:
        """The tokens of each text, without special ones, the first ``most`` of them."""
        # An empty list is no batch to a tokenizer, and an empty text none to some.
        found = [self.tokenizer(text, add_special_tokens=False).input_ids for text in texts]
        return [[int(token) for token in tokens[:most]] for tokens in found]

    def copied(self) -> nn.Module:
        """The network with modules of its own, which adapters may replace, around the same
        weights."""
        shared = {id(weight): weight for weight in self.network.parameters()}
        made: nn.Module = copy.deepcopy(self.network, shared)
        return made


def with_adapters(network: nn.Module, rank: int, strength: float, dropout: float) -> nn.Module:
    """Put low-rank adapters (LoRA, Hu et al., ICLR 2022) on the maps to queries and values, or
    where the architecture has no such maps, where peft puts them.

    Args:
        network: Changed in place; its own weights stay as they are.
        rank: Of each adapter.
        strength: Over the rank, what an adapter's output is multiplied by.
        dropout: Of what an adapter reads, in training.

    Raises:
        InputError: If the architecture is one that peft does not know.
    """
    import peft  # noqa: PLC0415

    names = {name.rpartition(".")[2] for name, _ in network.named_modules()}
    maps = ["q_proj", "v_proj"]
    chosen = maps if names.issuperset(maps) else None
    settings = peft.LoraConfig(
        r=rank, lora_alpha=strength, lora_dropout=dropout, target_modules=chosen
    )
    try:
        adapted: nn.Module = peft.inject_adapter_in_model(settings, network)
    except ValueError as error:
        kind = type(network).__name__
        raise InputError(
            f"no adapters for {kind}: {first_line(error)}; set tuning: frozen"
        ) from error
    for weight in adapted.parameters():
        if weight.requires_grad:  # Adapters learn in single precision, whatever is around them.
            weight.data = weight.data.float()
    return adapted


@functools.cache
def load_language_model(name: str, precision: Precision = "float32") -> LanguageModel:
    """A language model by the path of its folder or its name on the Hugging Face hub, read once in
    a process.

    Raises:
        InputError: If a package is missing, there is no such model, it is none, or its tokenizer
            has no single tokens for the answers.
        MgstudyError: If the hub cannot be reached.
    """
    transformers = _library()
    # The first trial of a process, which reads it, has the numbers of the others.
    with torch.random.fork_rng(devices=[]):
        if name == RANDOM:
            network, tokenizer = _random(transformers)
            key = RANDOM
        else:
            folder = find_folder(name)
            network, tokenizer = _read(transformers, folder, precision)
            key = _fingerprint(folder)
        answers = _answers(tokenizer, name)
        network.requires_grad_(False)
        network.eval()
        head = network.get_output_embeddings()
        rows = nn.Linear(head.in_features, 2, bias=head.bias is not None).requires_grad_(False)
        rows.weight.data = head.weight.data[list(answers)].clone()
        if head.bias is not None:
            rows.bias.data = head.bias.data[list(answers)].clone()
        network.set_output_embeddings(rows)
    return LanguageModel(network, tokenizer, key, answers)


def find_folder(name: str) -> Path:
    """The folder of a language model; one of the hub is fetched if it is not there yet.

    Raises:
        InputError: If there is none, and it is no name of the hub.
        MgstudyError: If it is not on this machine and cannot be fetched.
    """
    local = absolute(name)
    if local.is_dir():
        return local
    if local.suffix == ".gguf" or name.startswith((".", "/", "~")) or name.count("/") != 1:
        what = "a GGUF file" if local.suffix == ".gguf" and local.exists() else "no such folder"
        raise InputError(
            f"language_model {name!r}: {what}; give the folder of a model, which "
            "`mgstudy convert-language-model` makes of a GGUF file or a package that carries one, "
            "or a name on the Hugging Face hub"
        )
    return from_hub(name, FILES)


@contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """Without transformers' progress bars and remarks."""
    bars, level = (
        transformers.logging.is_progress_bar_enabled(),
        transformers.logging.get_verbosity(),
    )
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)
        if bars:
            transformers.logging.enable_progress_bar()


def _library() -> Any:
    try:
        import peft  # noqa: F401, PLC0415
        import transformers  # noqa: PLC0415
    except ImportError as error:
        raise InputError(
            f"a language model needs {error.name}; install it with `pip install 'mgstudy[llm]'`"
        ) from error
    return transformers


def _read(transformers: Any, folder: Path, precision: Precision) -> tuple[Any, Any]:
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    if size > limit("MGSTUDY_LANGUAGE_MODEL_BYTES"):
        most = more_than("MGSTUDY_LANGUAGE_MODEL_BYTES", "bytes")
        raise InputError(f"language_model {str(folder)!r}: {size:,} is {most}")
    safe = {"local_files_only": True, "trust_remote_code": False}
    try:
        with quiet(transformers):
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **safe)
            network = transformers.AutoModelForCausalLM.from_pretrained(
                folder,
                use_safetensors=True,
                dtype=getattr(torch, precision),
                # Prompts are short, and this one can be differentiated twice.
                attn_implementation="eager",
                **safe,
            )
    except Exception as error:  # Each kind of damaged model has an error of its own.
        raise InputError(
            f"language_model {str(folder)!r}: cannot be loaded as a causal language model: "
            f"{first_line(error)}"
        ) from error
    return network, tokenizer


def _random(transformers: Any) -> tuple[Any, Any]:
    """Two layers of width 16 over bytes and the prompt's words; the same in every process. Torch's
    generator is left somewhere else."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers  # noqa: PLC0415

    tokens = ["<s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    made = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    whole = [BEFORE_ITEM, BEFORE_USER, QUESTION, *(f" {answer}" for answer in ANSWERS)]
    made.add_tokens([AddedToken(text, normalized=False) for text in whole])
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>")
    shape = transformers.LlamaConfig(
        vocab_size=len(tokens) + len(whole),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.3,  # Of 0.02, the answers would hardly differ.
        bos_token_id=0,
        eos_token_id=None,
        attn_implementation="eager",
    )
    torch.default_generator.manual_seed(0)
    with quiet(transformers):
        return transformers.LlamaForCausalLM(shape), tokenizer


def _answers(tokenizer: Any, name: str) -> tuple[int, int]:
    for space in (" ", ""):
        tokens = [
            tokenizer(space + answer, add_special_tokens=False).input_ids for answer in ANSWERS
        ]
        if all(len(found) == 1 for found in tokens) and tokens[0] != tokens[1]:
            return int(tokens[0][0]), int(tokens[1][0])
    yes, no = ANSWERS
    raise InputError(
        f"language_model {name!r}: its tokenizer has no single tokens for {yes!r} and {no!r}, with "
        "which it is to answer; take another model"
    )


def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted({path for pattern in FILES for path in folder.glob(pattern)}):
        digest.update(f"{path.name}:{sha256_of(path)};".encode())
    return digest.hexdigest()[:32]
