"""How fast raw Amazon data becomes a dataset, in how much memory, and how fast it is found made.

    python benchmarks/prepare.py --reviews 2000000 --items 100000 --folder /tmp/prepare

Generates reviews in Amazon's format of 2014 (JSON lines of about 680 bytes, as reviews are), and
image features of 4096 columns in Amazon's binary; prepares them in a process of its own; prepares
them again; and removes everything. What parsing alone costs is measured in processor seconds, with
the stages beside it, because they say what bounds it.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

WIDTH = 4096
SECOND_PROCESS = """
import resource, sys, time
began = time.perf_counter()
from pathlib import Path
from mgstudy.data.prepare import prepare_file
from mgstudy.workspace import Workspace
manifest = prepare_file(Path(sys.argv[1]), (), Workspace(Path(sys.argv[2])))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(time.perf_counter() - began, time.process_time(), peak, manifest.counts.users,
      manifest.counts.items)
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--reviews", type=int, default=2_000_000)
    arguments.add_argument("--items", type=int, default=100_000)
    arguments.add_argument("--folder", type=Path, required=True)
    options = arguments.parse_args()
    needed = 3 * options.items * WIDTH * 4 + 1000 * options.reviews
    options.folder.mkdir(parents=True)
    try:
        if shutil.disk_usage(options.folder).free < needed:
            sys.exit(f"{options.folder}: needs {needed / 2**30:.1f} GiB")
        reviews = write_reviews(options.folder / "reviews.json", options.reviews, options.items)
        write_vectors(options.folder / "image.b", options.items)
        pipeline = write_pipeline(options.folder)
        measure_parsing(reviews, options.reviews)
        for name in ("first", "second"):
            seconds, processor, peak, users, items = prepare(pipeline, options.folder / "home")
            print(
                f"{name} prepare: {seconds:.1f} s, {processor:.1f} s of processor, peak memory "
                f"{peak / 2**30:.2f} GiB; {users:,.0f} users, {items:,.0f} items",
                flush=True,
            )
    finally:
        shutil.rmtree(options.folder)


def write_reviews(path: Path, reviews: int, items: int) -> Path:
    """JSON lines as in ``reviews_CATEGORY_5.json``, users with 20 reviews on average."""
    random = np.random.default_rng(0)
    words = [f"word{number % 997}" for number in range(4000)]
    with path.open("w") as file:
        for start in range(0, reviews, 50_000):
            count = min(50_000, reviews - start)
            columns = zip(
                random.integers(reviews // 20, size=count).tolist(),
                random.integers(items, size=count).tolist(),
                random.integers(1, 6, size=count).tolist(),
                random.integers(10**9, 14 * 10**8, size=count).tolist(),
                random.integers(0, 3900, size=count).tolist(),
                strict=True,
            )
            file.writelines(
                json.dumps(
                    {
                        "reviewerID": f"A{user:013d}",
                        "asin": f"B{item:09d}",
                        "reviewerName": f"reviewer {user}",
                        "helpful": [0, 1],
                        "reviewText": " ".join(words[place : place + 62]),
                        "overall": float(rating),
                        "summary": words[place],
                        "unixReviewTime": when,
                        "reviewTime": "05 28, 2013",
                    }
                )
                + "\n"
                for user, item, rating, when, place in columns
            )
    return path


def write_vectors(path: Path, items: int) -> None:
    """Amazon's binary: a 10-byte ASIN and 4096 float32 values per item."""
    random = np.random.default_rng(1)
    with path.open("wb") as file:
        for item in range(items):
            file.write(f"B{item:09d}".encode())
            file.write(random.standard_normal(WIDTH, dtype=np.float32).tobytes())


def write_pipeline(folder: Path) -> Path:
    path = folder / "pipeline.yaml"
    path.write_text(
        f"""
name: generated
source: {{kind: amazon_2014, reviews: {folder}/reviews.json}}
steps:
  - deduplicate: {{by_time: true}}
  - k_core: {{users: 5, items: 5}}
  - reindex
  - split_per_user_random
features:
  image: {{encoder: precomputed, file: {folder}/image.b, missing: mean}}
"""
    )
    return path


def prepare(pipeline: Path, home: Path) -> list[float]:
    """Wall and processor seconds, peak bytes, users and items, of a process that prepares."""
    command = [sys.executable, "-c", SECOND_PROCESS, str(pipeline), str(home)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [float(number) for number in output.split()]


def measure_parsing(path: Path, reviews: int) -> None:
    """Reviews per second of one core: reading blocks, parsing them, and making interactions."""
    import pyarrow as pa  # noqa: PLC0415

    from mgstudy.config.pipeline import PipelineConfig  # noqa: PLC0415
    from mgstudy.data.pipeline import validate_pipeline  # noqa: PLC0415
    from mgstudy.data.reading import Malformed, line_blocks  # noqa: PLC0415
    from mgstudy.data.records import Column, read_json_lines  # noqa: PLC0415
    from mgstudy.files import no_progress, sha256_of  # noqa: PLC0415

    pa.set_cpu_count(1)
    size = path.stat().st_size
    columns = {
        "reviewerID": Column(),
        "asin": Column(),
        "overall": Column(pa.float64()),
        "unixReviewTime": Column(pa.int64(), unit="seconds"),
    }
    source = {"kind": "amazon_2014", "reviews": str(path)}
    config = PipelineConfig.model_validate({"name": "generated", "source": source})

    def blocks() -> None:
        for _ in line_blocks(path, no_progress):
            pass

    def parse() -> None:
        for _ in read_json_lines(Malformed(path, 0), columns, no_progress):
            pass

    def interactions() -> None:
        validate_pipeline(config).source.interactions()

    print(f"{reviews:,} reviews, {size / 2**20:,.0f} MiB, {size / reviews:.0f} bytes each")
    for name, work in (
        ("read in blocks", blocks),
        ("and parsed by Arrow", parse),
        ("and numbered: all of it", interactions),
        ("(hashed, for the cache)", lambda: sha256_of(path)),
    ):
        wall, processor = time.perf_counter(), time.process_time()
        work()
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        print(
            f"{name:26}{reviews / processor:12,.0f} reviews per processor second"
            f"{size / processor / 2**20:8,.0f} MiB/s   {wall:6.1f} s in all",
            flush=True,
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory of reading alone: {peak:.2f} GiB")


if __name__ == "__main__":
    main()
