"""What must be refused, whatever else becomes of it: exit code 2.

What is not nonsense by itself but by what it meets, such as an id that nothing else has, is here as
raw data; a value that no setting can have is here as an override.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from inputs import STUDY, Input, files_of
from raw_files import parquet, vectors

LONG = "a" * 300
STUDY_OVERRIDES = [
    "trials=0", "trials=1.5", "trials=many", "trials=true", "trials='3'", f"trials=1{'0' * 30}",
    "name=../x", f"name={LONG}", 'name="s\\n"', "name=.x", "name=[]", "question=2024-02-30",
    "factors.dataset=[../datasets/tiny]", "factors.dataset=[tiny/]", "factors.dataset=[./tiny]",
    f"factors.dataset=[{LONG}]", "factors.dataset=[tiny, tiny]", "factors.dataset=[]",
    "factors.dataset=[nothing]", "factors.model=[VBRP]", "factors.model=[]",
    "factors.model=[{name: VBPR, label: a/b}]", 'factors.model=[{name: VBPR, label: "a\\n"}]',
    f"factors.model=[{{name: VBPR, label: {LONG}}}]", "factors.model=[.x:y]",
    "factors.gradient=[mirror]", "factors.robust=[nothing]", "factors.optimizer=[adm]",
    "factors.seed=[-1]", "factors.seed=[4294967296]", "factors.seed=[true]",
    "space.optimizer.learning_rate={log_float: [0, 1]}", "space.model.VBPR.regularisation=3",
    "space.optimizer.learning_rate={float: [1, 0]}", "space.optimizer.learning_rate={choice: []}",
    "space.optimizer.learning_rate={choice: [1, 1]}", "space.optimizer.learning_rate=fast",
    "space.gradient.mirror_gradient={alpha1: 0.1, alpha2: 0.2}", "space.model.BPR=3",
    "training.objective=recall", "training.objective=recall@0", "training.objective=recal@2",
    "training.cutoffs=[0]", "training.cutoffs=[100000000000]", "training.epochs=0",
    "training.batch_size=-1", "training.measures=[x]",
    "training.early_stopping={patience: -1}", "training.clip_norm=0", "trainig={}",
    "confirmation.seeds=-1", f"confirmation.seeds=1{'0' * 400}", "confirmation.shared=maybe",
    "budget.seconds=0", "budget.gradient_computations=0", "retries.max_retries=-1",
    "checkpoints.every_seconds=0", "sampler=TPESampelr", "pruner=Median", "sampler=3",
    "resources.cpu=0", "resources.gpu=1.5", "resources.max_concurrent=0",
    "resources.autoscaling=true", "storage=nothing", "storage=oracle://x", "storage=sqlite://",
    "tracking.uri=./mlruns",
    "pruner={name: PatientPruner, arguments: {patience: 1, wrapped_pruner: {name: 5}}}",
    "pruner={name: HyperbandPruner, arguments: {min_resource: 9, max_resource: 3}}",
    "sampler={name: TPESampler, arguments: {n_startup_trials: 999, n_ei_candidates: 0}}",
    "factors.dataset=[{name: tiny, label: x, features: {gaussian_noise: {severity: 1e300}}}]",
    "factors.dataset=[{name: tiny, label: x, features: {gausian_noise: {severity: 1}}}]",
    "factors.dataset=[{name: tiny, label: tiny, features: {swap: {severity: 1}}}]",
    "seed=-1", "a.b=&a [*a]", f"question={'[' * 3000}", "numbers=0x_",
]  # fmt: skip
PIPELINE_OVERRIDES = {
    "mmrec": ["source.path=~nosuchuser", "source.path=nowhere", "source.modalities={image: x.npy}",
              "source.interactions=../a.inter", "source.kind=.x:y", "source.kind=mmrek",
              'source.path="a\\0b"'],
    "synthetic": ["source.users=0", "source.users=1e3", f"source.items={2**63}", "source.items=9",
                  "source.modalities={image: {width: 0}}", "source.modalities={../x: {width: 1}}",
                  "source.seed=-1", "source.cold_item_share=0.6", "source.preference=1e308",
              "source.modalities={image: {width: 3, noise: 1e300}}",
              "source.popularity_skew=1e308", "source.drift=1e300",
                  "steps=[{k_core: {rounds: 0}}]", "features={copy: {encoder: source}}",
                  "features={image: {encoder: tfidf}}"],
    "csv": ["source.user=nobody", "source.delimiter=''", "source.malformed_share=1",
            "source.malformed_share=-1", "source.timestamp_unit=days", "steps=[reindx]",
            "steps=[reindex]", "steps=[{k_core: {users: 0}}]", "steps=[{k_core: {}, reindex: {}}]",
            "steps=[{split_leave_out: {k: 0}}]", "source.items=i.csv",
            "steps=[{split_per_user_random: {}}, {split_per_user_temporal: {}}]",
            "steps=[{split_per_user_random: {ratios: [0.5, 0.5, 0.5]}}]",
            "steps=[{split_per_user_random: {ratios: [1, 0, 0]}}]",
            "features.text.template=none", "features.text.template={title", "name=../d",
            "features.text.seed=99999999999", "features.text.dimensions=0",
            "features.image.width=1000000000000", "features.image.row_keys=nowhere",
            "features.price.scaled=[title]", "features.price={encoder: table}"],
    "recbole split": ["source.splits=[train]", "source.splits=[train, train, test]",
                      "source.splits=[train, dev, test]", "source.dataset=y"],
}  # fmt: skip


def _npy(array: Any, more: bytes = b"") -> bytes:
    written = io.BytesIO()
    np.save(written, array)
    return written.getvalue() + more


def _line(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    """Replace the first line that begins so."""

    def change(content: bytes) -> bytes:
        position = content.index(old)
        end = content.find(b"\n", position) % (len(content) + 1)
        return content[:position] + new + content[end:]

    return change


def _parquet(column: str, values: Callable[[int], Any]) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        table = pa.parquet.read_table(pa.BufferReader(content), use_threads=False)
        position = table.column_names.index(column)
        return parquet(table.set_column(position, column, pa.array(values(len(table)))))

    return change


RAW_NONSENSE: dict[str, tuple[str, str, Callable[[bytes], bytes]]] = {
    "hex id": ("mmrec", "a.inter", _line(b"0\t", b"0x3\t0\t0")),
    "a stray id": ("mmrec", "a.inter", _line(b"0\t", b"1000000000\t0\t0")),
    "negative item": ("mmrec", "a.inter", _line(b"0\t", b"0\t-1\t0")),
    "no such split": ("mmrec", "a.inter", _line(b"0\t", b"0\t0\t3")),
    "bytes left over": ("mmrec", "image_feat.npy", lambda content: content + b"\r\n"),
    "a row too few": ("mmrec", "image_feat.npy", lambda _: _npy(vectors()[:11])),
    "not finite": ("mmrec", "image_feat.npy", lambda _: _npy(vectors() * np.inf)),
    "whole numbers": ("mmrec", "image_feat.npy", lambda _: _npy(np.ones((12, 4), np.int32))),
    "complex": ("mmrec", "image_feat.npy", lambda _: _npy(np.ones((12, 4), np.complex64))),
    "a pickle": ("mmrec", "image_feat.npy", lambda _: _npy(np.array([{}]))),
    "carriage returns": ("csv", "i.csv", lambda content: content.replace(b"\n", b"\r")),
    "UTF-16": ("csv", "i.csv", lambda content: content.decode().encode("utf-16")),
    "no rows": ("csv", "i.csv", lambda content: content[: content.index(b"\n") + 1]),
    "decimal comma": ("amazon 2023", "m.jsonl", lambda c: c.replace(b'"1.99"', b'"12,99"')),
    "a rating of text": ("csv", "i.csv", _line(b"u0,", b"u0,i0,good,1600000000")),
    "milliseconds": ("csv", "i.csv", _line(b"u0,", b"u0,i0,5.0,1600000000000")),
    "microseconds": ("csv", "i.csv", _line(b"u0,", b"u0,i0,5.0,1600000000000000")),
    "a user called nan": ("csv", "i.csv", _line(b"u0,", b"nan,i0,5.0,1600000000")),
    "an item called None": ("recbole", "x.inter", lambda c: c.replace(b"\ti3\t", b"\tNone\t")),
    "a half character": ("amazon 2023", "r.jsonl", lambda c: c.replace(b'"u0"', b'"\\ud800"', 1)),
    "a huge number": ("amazon 2014", "r.json", lambda c: c.replace(b"5.0", b"1" + b"0" * 400, 1)),
    "a dictionary": ("amazon 2014", "r.json", lambda c: c.replace(b'"u0"', b'{"a": 1}', 1)),
    "ids of nobody": ("csv", "items.csv", lambda content: content.replace(b"i", b"j")),
    "a float id": ("parquet", "i.parquet", _parquet("user", lambda n: [0.5] * n)),
    "a NaN id": ("parquet", "i.parquet", _parquet("user", lambda n: [float("nan")] * n)),
    "a list as id": ("parquet", "i.parquet", _parquet("user", lambda n: [["u"]] * n)),
    "text as vectors": ("parquet", "v.parquet", _parquet("feature", lambda n: [["a"]] * n)),
    "vectors of two widths": (
        "parquet", "v.parquet", _parquet("feature", lambda n: [[1.0], *[[1.0] * 2] * (n - 1)])
    ),
    "vectors without values": ("parquet", "v.parquet", _parquet("feature", lambda n: [[]] * n)),
}  # fmt: skip


def _raw(name: str, file: str, change: Callable[[bytes], bytes]) -> Input:
    def lay_out(folder: Path) -> None:
        files_of({}, name)(folder)
        (folder / file).write_bytes(change((folder / file).read_bytes()))

    return Input(["prepare", "p.yaml"], lay_out, refused=True)


NONSENSE = {
    f"nonsense: {override[:60]}": Input(
        ["plan", "s.yaml", "--set", override], files_of({"s.yaml": json.dumps(STUDY)}), refused=True
    )
    for override in STUDY_OVERRIDES
}
NONSENSE |= {
    f"nonsense: {name}: {override[:60]}": Input(
        ["prepare", "p.yaml", "--set", override], files_of({}, name), refused=True
    )
    for name, overrides in PIPELINE_OVERRIDES.items()
    for override in overrides
}
NONSENSE |= {f"nonsense: {what}": _raw(*where) for what, where in RAW_NONSENSE.items()}
