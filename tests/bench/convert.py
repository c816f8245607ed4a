"""Convert a large CSV to a job table: seconds, memory, and the work checked.

    python tests/bench/convert.py --rows 10000000            # sorted by submission
    python tests/bench/convert.py --rows 10000000 --reverse  # in no order that helps

The memory is the peak of the process that converts, the interpreter and its libraries included.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np


def write(path: Path, rows: int, reverse: bool) -> None:
    """A log of *rows* jobs with identities, seven columns."""
    rng, step = np.random.default_rng(0), 100_000
    submit_s = np.cumsum(rng.exponential(3, rows))
    if reverse:
        submit_s = submit_s[::-1]
    with path.open("w") as file:
        file.write("job_id,submit_s,duration_s,gpus,tenant,user,status\n")
        for first in range(0, rows, step):
            count = min(step, rows - first)
            took, gpus = rng.lognormal(7, 2, count), 2 ** rng.integers(0, 5, count)
            user = rng.integers(0, 2000, count)
            file.writelines(
                f"job-{first + i},{submit_s[first + i]:.3f},{took[i]:.1f},{gpus[i]},"
                f"vc{user[i] % 15},user{user[i]},completed\n"
                for i in range(count)
            )


def convert(path: Path, output: Path, rows: int) -> None:
    from fleetsim_traces.convert import convert as run
    from fleetsim_traces.either import find

    began = time.perf_counter()
    done = run(find(path), output)
    spent_s = time.perf_counter() - began
    assert (done.rows, done.rows_read, done.rejected) == (rows, rows, {})
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    text_mb, table_mb = (file.stat().st_size / 1e6 for file in (path, output))
    print(
        f"{rows:,} rows, {text_mb:,.0f} MB to {table_mb:,.0f} MB: {spent_s:.1f} s, peak {peak_mib:,.0f} MiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--reverse", action="store_true", help="latest job first")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.csv"
        # of their own processes: what one took must not count for the other
        for work, words in (
            (write, (path, options.rows, options.reverse)),
            (convert, (path, Path(folder) / "jobs.parquet", options.rows)),
        ):
            process = multiprocessing.get_context("spawn").Process(target=work, args=words)
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit(process.exitcode)


if __name__ == "__main__":
    main()
