"""Trains one model of another library, and tells after each epoch what it took and has learned.

Run by ``peers.py`` with the Python of an environment that has the library; it needs no mgstudy.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

SPLITS = ("train", "valid", "test")
FACTORS = "factors.npz"
VALIDATIONS = 3
"""Epochs whose validation by the library itself is timed; another takes as long."""
PRODUCT_EVERY = 10

Factors = Mapping[str, Any]
"""Tables ``users`` and ``items`` whose product is the scores."""


class EnoughError(Exception):
    """Whoever asked for the training wants no further epoch."""


class Account:
    """Counts an epoch's seconds, and tells them to whoever asked for the training.

    Only what lies between ``start`` and ``end`` counts as training. A line of JSON on the standard
    output tells of an epoch, and the answer on the standard input is whether another follows; what
    libraries print goes to the standard error.

    Args:
        folder: Where an epoch's factors are written, over those of the one before.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._output = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self._epochs = 0
        self.start()

    def start(self) -> None:
        self._wall, self._processor = time.perf_counter(), time.process_time()

    def end(self, factors: Callable[[], Factors], validate: Callable[[], object]) -> None:
        """Tell of an epoch that has ended.

        Args:
            factors: What was learned.
            validate: The library's own validation.

        Raises:
            EnoughError: If no other epoch shall follow.
        """
        told = {
            "training": time.process_time() - self._processor,
            "wall": time.perf_counter() - self._wall,
        }
        np.savez(self._folder / FACTORS, **factors())
        if self._epochs < VALIDATIONS:
            told["validation"] = processor_seconds(validate)
        if self._epochs % PRODUCT_EVERY == 0:
            left, right = torch.randn(2, 2048, 2048)
            told["product"] = processor_seconds(lambda: left @ right)
        self._epochs += 1
        print(json.dumps(told), file=self._output, flush=True)
        if sys.stdin.readline() != "on\n":
            raise EnoughError


def processor_seconds(act: Callable[[], object]) -> float:
    began = time.process_time()
    act()
    return time.process_time() - began


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("peer", choices=PEERS)
    arguments.add_argument("--folder", type=Path, required=True, help="written by peers.py")
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    with np.load(options.folder / "data.npz") as arrays:
        data = dict(arrays)
    with suppress(EnoughError):
        PEERS[options.peer](data, options.folder, options.seed)


def recbole(name: str, data: dict[str, Any], folder: Path, seed: int) -> None:
    # RecBole 1.2.1 uses names that NumPy 2 no longer has, and a private dictionary of SciPy's
    # under the name it had before.
    for old, new in {"float_": "float64", "complex_": "complex128", "unicode_": "str_"}.items():
        setattr(np, old, getattr(np, new))
    from scipy.sparse import dok_matrix

    def update(matrix: Any, entries: Any) -> None:
        matrix._dict.update(entries)

    replaced: Any = dok_matrix
    replaced._update = update

    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    (folder / "peer").mkdir(exist_ok=True)
    for split in SPLITS:
        pairs = "\n".join(f"{user}\t{item}" for user, item in data[split])
        header = "user_id:token\titem_id:token"
        (folder / "peer" / f"peer.{split}.inter").write_text(f"{header}\n{pairs}\n")
    sys.argv = sys.argv[:1]
    config = Config(
        model=name,
        dataset="peer",
        config_dict={
            "data_path": str(folder),
            "benchmark_filename": list(SPLITS),
            "load_col": {"inter": ["user_id", "item_id"]},
            "seed": seed,
            "embedding_size": 64,
            "n_layers": 2,
            "train_batch_size": 2048,
            "eval_batch_size": 2**24,
            "learning_rate": 1e-3,
            "metrics": ["Recall", "NDCG", "Precision", "MAP"],
            "topk": [5, 10, 20, 50],
            "valid_metric": "Recall@20",
            "eval_args": {"mode": "full", "order": "RO", "group_by": "user"},
            "use_gpu": False,
            "show_progress": False,
            "checkpoint_dir": str(folder),
        },
    )
    init_seed(seed, True)
    dataset = create_dataset(config)
    train, valid, _ = data_preparation(config, dataset)
    model = get_model(name)(config, train.dataset)
    trainer = get_trainer(config["MODEL_TYPE"], name)(config, model)
    trainer.eval_collector.data_collect(train)

    def factors() -> Factors:
        with torch.no_grad():
            if name == "LightGCN":
                tables = model.forward()
            else:
                tables = model.user_embedding.weight, model.item_embedding.weight
        # RecBole numbers users and items anew, from 1; those it never saw have zeros here.
        found = {}
        for kind, table, count in zip(("user", "item"), tables, data["counts"], strict=True):
            known = dataset.field2id_token[f"{kind}_id"][1:].astype(np.int64)
            found[f"{kind}s"] = np.zeros((count, table.shape[1]), dtype=np.float32)
            found[f"{kind}s"][known] = table.detach().numpy()[1 : len(known) + 1]
        return found

    account = Account(folder)
    for number in itertools.count():
        account.start()
        trainer._train_epoch(train, number, show_progress=False)
        account.end(factors, lambda: trainer._valid_epoch(valid, show_progress=False))


def implicit_bpr(data: dict[str, Any], folder: Path, seed: int) -> None:
    from implicit.cpu.bpr import BayesianPersonalizedRanking
    from implicit.evaluation import ranking_metrics_at_k
    from scipy.sparse import csr_matrix

    train, valid = (
        csr_matrix((np.ones(len(data[split]), np.float32), data[split].T), shape=data["counts"])
        for split in ("train", "valid")
    )
    model = BayesianPersonalizedRanking(
        factors=64, iterations=sys.maxsize, num_threads=1, random_state=seed
    )

    def ended(*_: object) -> None:
        account.end(
            lambda: {"users": model.user_factors, "items": model.item_factors},
            lambda: ranking_metrics_at_k(
                model, train, valid, K=20, show_progress=False, num_threads=1
            ),
        )
        account.start()

    account = Account(folder)
    model.fit(train, show_progress=False, callback=ended)


def cornac_vbpr(data: dict[str, Any], folder: Path, seed: int) -> None:
    from cornac.data import Dataset, ImageModality
    from cornac.eval_methods.base_method import ranking_eval
    from cornac.metrics import Recall
    from cornac.models import VBPR

    features = np.load(folder / "features.npy")
    train = Dataset.build([(int(user), int(item), 1.0) for user, item in data["train"]], seed=seed)
    valid = Dataset.build(
        [(int(user), int(item), 1.0) for user, item in data["valid"]],
        global_uid_map=train.uid_map,
        global_iid_map=train.iid_map,
        exclude_unknowns=True,
    )
    # Cornac numbers users and items by first appearance.
    known = {
        "users": np.fromiter(train.uid_map, dtype=np.int64),
        "items": np.fromiter(train.iid_map, dtype=np.int64),
    }
    features = features[known["items"]]
    train.add_modalities(item_image=ImageModality(features=features))
    model = VBPR(
        k=64,
        k2=64,
        n_epochs=sys.maxsize,
        batch_size=2048,
        learning_rate=1e-3,
        verbose=False,
        seed=seed,
    )

    # The weights are the training's own until it ends; its optimizer has them.
    weights: list[torch.Tensor] = []

    class Adam(torch.optim.Adam):
        def __init__(self, tensors: list[torch.Tensor], **options: Any) -> None:
            super().__init__(tensors, **options)
            weights.extend(tensors)

    def factors() -> Factors:
        model.beta_item, model.gamma_user, model.gamma_item, model.theta_user, *projections = (
            weight.detach().numpy() for weight in weights
        )
        model.theta_item = features @ projections[0]
        model.visual_bias = (features @ projections[1]).ravel()
        bias = (model.beta_item + model.visual_bias)[:, None]
        tables = {
            "users": (model.gamma_user, model.theta_user, np.ones((len(known["users"]), 1))),
            "items": (model.gamma_item, model.theta_item, bias),
        }
        found = {}
        for (kind, blocks), count in zip(tables.items(), data["counts"], strict=True):
            found[kind] = np.zeros((count, 129), dtype=np.float32)
            found[kind][known[kind]] = np.hstack(blocks)
        return found

    draw = train.uij_iter

    def epoch(*arguments: Any, **options: Any) -> Iterator[Any]:
        account.start()
        yield from draw(*arguments, **options)
        account.end(factors, lambda: ranking_eval(model, [Recall(k=20)], train, valid))

    train.uij_iter = epoch
    replaced: Any = torch.optim
    replaced.Adam = Adam
    account = Account(folder)
    model.fit(train)


PEERS: dict[str, Callable[[dict[str, Any], Path, int], None]] = {
    "RecBole BPR": partial(recbole, "BPR"),
    "RecBole LightGCN": partial(recbole, "LightGCN"),
    "implicit BPR": implicit_bpr,
    "Cornac VBPR": cornac_vbpr,
}

if __name__ == "__main__":
    main()
