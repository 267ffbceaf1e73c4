"""Trains one model of another library and writes how long it took and what it learned.

Run by ``peers.py`` with the Python of an environment that has the library; it needs no mgstudy.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

SPLITS = ("train", "valid", "test")
Figures = dict[str, Any]
"""``epoch`` seconds, ``validate`` seconds or none, and the factors ``users`` and ``items`` whose
product is the scores."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("peer", choices=PEERS)
    arguments.add_argument("--folder", type=Path, required=True, help="written by peers.py")
    arguments.add_argument("--epochs", type=int, required=True)
    arguments.add_argument("--threads", type=int, required=True)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    with np.load(options.folder / "data.npz") as arrays:
        data = dict(arrays)
    figures = PEERS[options.peer](data, options.folder, options.epochs, options.threads)
    factors = {name: figures.pop(name) for name in ("users", "items")}
    np.savez(options.folder / f"{options.peer}.npz", **factors)
    print(json.dumps(figures | {"product": matrix_product()}), file=sys.__stdout__)


def matrix_product() -> float:
    left, right = torch.randn(2, 2048, 2048)
    best = math.inf
    for _ in range(10):
        began = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - began)
    return best


def recbole(name: str, data: dict[str, Any], folder: Path, epochs: int) -> Figures:
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
            "epochs": epochs,
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
    init_seed(config["seed"], True)
    dataset = create_dataset(config)
    train, valid, _ = data_preparation(config, dataset)
    model = get_model(name)(config, train.dataset)
    trainer = get_trainer(config["MODEL_TYPE"], name)(config, model)
    trainer.eval_collector.data_collect(train)
    epoch, validate = math.inf, math.inf
    for number in range(epochs):
        began = time.perf_counter()
        trainer._train_epoch(train, number, show_progress=False)
        epoch = min(epoch, time.perf_counter() - began)
        if number >= epochs - 3:
            began = time.perf_counter()
            trainer._valid_epoch(valid, show_progress=False)
            validate = min(validate, time.perf_counter() - began)
    with torch.no_grad():
        if name == "LightGCN":
            users, items = model.forward()
        else:
            users, items = model.user_embedding.weight, model.item_embedding.weight
    # RecBole numbers users and items anew, from 1; those it never saw have zeros here.
    factors = {}
    for kind, table, count in (
        ("user", users, data["counts"][0]),
        ("item", items, data["counts"][1]),
    ):
        known = dataset.field2id_token[f"{kind}_id"][1:].astype(np.int64)
        factors[f"{kind}s"] = np.zeros((count, table.shape[1]), dtype=np.float32)
        factors[f"{kind}s"][known] = table.detach().numpy()[1 : len(known) + 1]
    return {"epoch": epoch, "validate": validate, **factors}


def implicit_bpr(data: dict[str, Any], folder: Path, epochs: int, threads: int) -> Figures:
    from implicit.cpu.bpr import BayesianPersonalizedRanking
    from scipy.sparse import csr_matrix

    users, items = data["train"].T
    matrix = csr_matrix((np.ones(len(users), np.float32), (users, items)), shape=data["counts"])
    model = BayesianPersonalizedRanking(
        factors=64, iterations=epochs, num_threads=threads, random_state=0
    )
    began = time.perf_counter()
    model.fit(matrix, show_progress=False)
    epoch = (time.perf_counter() - began) / epochs
    held_out = np.unique(data["valid"][:, 0])
    began = time.perf_counter()
    model.recommend(held_out, matrix[held_out], N=50)
    validate = time.perf_counter() - began
    return {
        "epoch": epoch,
        "validate": validate,
        "users": model.user_factors,
        "items": model.item_factors,
    }


def cornac_vbpr(data: dict[str, Any], folder: Path, epochs: int, threads: int) -> Figures:
    from cornac.data import Dataset, ImageModality
    from cornac.models import VBPR

    user_count, item_count = data["counts"]
    features = np.load(folder / "features.npy")
    pairs = Dataset.build([(int(user), int(item), 1.0) for user, item in data["train"]])
    # Cornac numbers users and items by first appearance.
    known_users = np.fromiter(pairs.uid_map, dtype=np.int64)
    known_items = np.fromiter(pairs.iid_map, dtype=np.int64)
    pairs.add_modalities(item_image=ImageModality(features=features[known_items]))
    model = VBPR(
        k=64, k2=64, n_epochs=epochs, batch_size=2048, learning_rate=1e-3, verbose=False, seed=0
    )
    began = time.perf_counter()
    model.fit(pairs)
    epoch = (time.perf_counter() - began) / epochs
    users = np.zeros((user_count, 129), dtype=np.float32)
    items = np.zeros((item_count, 129), dtype=np.float32)
    users[known_users] = np.hstack(
        [model.gamma_user, model.theta_user, np.ones((len(known_users), 1))]
    )
    bias = (model.beta_item + model.visual_bias)[:, None]
    items[known_items] = np.hstack([model.gamma_item, model.theta_item, bias])
    return {"epoch": epoch, "validate": None, "users": users, "items": items}


PEERS = {
    "RecBole BPR": lambda data, folder, epochs, _: recbole("BPR", data, folder, epochs),
    "RecBole LightGCN": lambda data, folder, epochs, _: recbole("LightGCN", data, folder, epochs),
    "implicit BPR": implicit_bpr,
    "Cornac VBPR": cornac_vbpr,
}

if __name__ == "__main__":
    main()
