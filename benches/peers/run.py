"""Times the same work in gatefold and in PyTorch, in turn, and prints the ratios of the medians.

    benches/peers/run.py PEER [--cells LSTM,GRU,RNN] [--modes train,infer] [--threads 1,2] [--rounds 5] [--out FILE.json]

PEER is the compiled `peer` example. In every round each side runs each case once (several calls), so that a change in what else the machine
does meets both. A ratio above 1 means that gatefold is faster.
"""

import argparse
import datetime
import json
import math
import platform
import statistics
import subprocess
import time

import torch

SIZES = [  # T, B, I, H, layers, bidirectional
    (64, 1, 64, 64, 1, False),
    (64, 32, 128, 128, 1, False),
    (128, 32, 256, 256, 1, False),
    (100, 32, 512, 512, 1, False),
    (50, 64, 1024, 1024, 1, False),
    (100, 32, 128, 256, 2, True),
    (28, 128, 28, 128, 2, False),
    (200, 30, 100, 256, 2, True),
]


class Torch:
    """PyTorch's side: the module's own default kernels, eager."""

    def __init__(self):
        self.cache = {}

    def seconds(self, case, repeats):
        torch.set_num_threads(case["threads"])
        key = tuple(v for k, v in case.items() if k not in ("mode", "threads"))
        if key not in self.cache:
            self.cache.clear()
            torch.manual_seed(1)
            cls = getattr(torch.nn, case["cell"])
            module = cls(case["i"], case["h"], case["layers"], bidirectional=case["bi"])
            self.cache[key] = module, torch.randn(case["t"], case["b"], case["i"])
        module, x = self.cache[key]

        def train():
            module(x)[0].sum().backward()
            module.zero_grad(set_to_none=True)

        def infer():
            with torch.no_grad():
                module(x)

        run = train if case["mode"] == "train" else infer
        module.train(case["mode"] == "train")
        run()
        start = time.perf_counter()
        run()
        calls = int(min(max(0.02 / (time.perf_counter() - start), 1), 200))
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            for _ in range(calls):
                run()
            times.append((time.perf_counter() - start) / calls)
        return times


class Ours:
    def __init__(self, path):
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def seconds(self, case, repeats):
        self.process.stdin.write(json.dumps({**case, "repeats": repeats}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the peer program ended early")
        return json.loads(line)["seconds"]


def cpu():
    for line in open("/proc/cpuinfo", encoding="utf-8"):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer")
    parser.add_argument("--cells", default="LSTM,GRU,RNN")
    parser.add_argument("--modes", default="train,infer")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--commit", default="unknown")
    parser.add_argument("--out")
    args = parser.parse_args()
    ours, theirs = Ours(args.peer), Torch()
    results = []
    for cell in args.cells.split(","):
        for mode in args.modes.split(","):
            for threads in map(int, args.threads.split(",")):
                ratios = []
                for t, b, i, h, layers, bi in SIZES:
                    case = dict(cell=cell, t=t, b=b, i=i, h=h, layers=layers, bi=bi, mode=mode, threads=threads)
                    a, z = [], []
                    for _ in range(args.rounds):
                        a += ours.seconds(case, 1)
                        z += theirs.seconds(case, 1)
                    mine, torchs = statistics.median(a), statistics.median(z)
                    ratios.append(torchs / mine)
                    results.append({**case, "gatefold_seconds": a, "torch_seconds": z})
                    size = f"({t},{b},{i},{h},{layers},{'yes' if bi else 'no'})"
                    print(f"{cell:4} {mode:5} {threads} thread{'s'[:threads - 1]:1} {size:26} gatefold {mine * 1e3:9.3f} ms   torch {torchs * 1e3:9.3f} ms   ratio {ratios[-1]:5.2f}", flush=True)
                mean = math.exp(statistics.fmean(map(math.log, ratios)))
                print(f"{cell:4} {mode:5} {threads} thread{'s'[:threads - 1]:1} geometric mean {mean:.2f}, lowest {min(ratios):.2f}", flush=True)
    if args.out:
        document = {
            "what": "seconds per call, alternating rounds in one run",
            "date": datetime.date.today().isoformat(),
            "commit": args.commit,
            "cpu": cpu(),
            "torch": torch.__version__,
            "rounds": args.rounds,
            "cases": results,
        }
        with open(args.out, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=1)


if __name__ == "__main__":
    main()
