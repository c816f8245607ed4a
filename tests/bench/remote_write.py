"""How fast the remote write encoder is, from columns to compressed messages.

    python tests/bench/remote_write.py [--gpus 125] [--families 8] [--ticks 8640] [--json]

By default 1,000 series of 8,640 samples, 8.64 million: 30 days at 5 minutes, in slices of an hour. Prints
samples a second and bytes a sample, before and after Snappy. Goal: 500,000 samples a second. The floor is
copying the samples' 16 bytes of value and time once.
"""

from __future__ import annotations

import argparse
import json
from time import perf_counter

import numpy as np

from fleetsim.history import snappy
from fleetsim_collectors.remote_write import Series, label_parts, labelled, messages, samples, stamped

STEP_MS, START_MS = 300_000, 1_767_225_600_000
GOAL_PER_S = 500_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--gpus", type=int, default=125)
    parser.add_argument("--families", type=int, default=8)
    parser.add_argument("--ticks", type=int, default=8640)
    parser.add_argument("--each", type=int, default=12, help="ticks of a slice")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rng = np.random.default_rng(1)
    shape = (args.families, args.ticks // args.each, args.gpus, args.each)
    values = np.rint(rng.normal(400_000, 20_000, shape)) / 1000  # watts to the milliwatt
    times_ms = START_MS + STEP_MS * np.arange(args.ticks)
    began = perf_counter()
    np.copy(np.stack([values, np.broadcast_to(values, shape)]))
    floor_s = perf_counter() - began

    began = perf_counter()
    count = plain = packed = sent = 0
    for s in range(shape[1]):
        stamps = stamped(np.tile(times_ms[s * args.each : (s + 1) * args.each], args.gpus))
        parts = [
            label_parts(
                {
                    "gpu": g % 8,
                    "UUID": f"GPU-8b2281de-6d3c-22ed-0ec8-{g:012d}",
                    "pci_bus_id": "00000000:8D:00.0",
                    "device": f"nvidia{g % 8}",
                    "modelName": "NVIDIA H100 80GB HBM3",
                    "Hostname": f"node-{g // 8:05d}",
                    "DCGM_FI_DRIVER_VERSION": "550.144.03",
                    "instance": f"node-{g // 8:05d}:9400",
                    "job": "dcgm",
                }
            )
            for g in range(args.gpus)
        ]
        size = 18 * args.each
        series = []
        for f in range(args.families):
            data = samples(stamps, values[f, s].reshape(-1))
            name = f"DCGM_FI_DEV_FAMILY_{f}"
            series += [
                Series(labelled(name, p), data[i * size : (i + 1) * size]) for i, p in enumerate(parts)
            ]
        for message in messages(series):
            count += message.samples
            plain += len(message.body)
            packed += len(snappy(message.body))
            sent += 1
    spent_s = perf_counter() - began
    found = {
        "samples": count,
        "messages": sent,
        "seconds": round(spent_s, 2),
        "samples_per_s": round(count / spent_s),
        "times_the_goal": round(count / spent_s / GOAL_PER_S, 1),
        "times_the_floor": round(spent_s / floor_s, 1),
        "bytes_per_sample": round(plain / count, 1),
        "compressed_bytes_per_sample": round(packed / count, 1),
    }
    print(json.dumps(found) if args.json else "\n".join(f"{k:28} {v:>14,}" for k, v in found.items()))


if __name__ == "__main__":
    main()
