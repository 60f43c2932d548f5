#!/usr/bin/env python3
"""Times the same work with builds of several commits, in turn, and prints what each gained over the one before it.

    benches/peers/steps.py NAME=COMMIT=PEER … [--cells LSTM] [--modes train,infer] [--threads 1,2] [--rounds 15] [--out FILE.json]

PEER is the `peer` example as built at COMMIT, NAME what changed there; the first is what the others begin from. Sequences are short, so that
the builds take turns every few milliseconds; a ratio is the median of the rounds' own ratios, in which the state of the machine cancels out.
"""

import argparse
import datetime
import json
import math
import os
import statistics
import subprocess

SIZES = [  # T, B, I, H, layers, bidirectional: run.py's, with fewer steps
    (64, 1, 64, 64, 1, False),
    (64, 32, 128, 128, 1, False),
    (32, 32, 256, 256, 1, False),
    (16, 32, 512, 512, 1, False),
    (8, 64, 1024, 1024, 1, False),
    (20, 32, 128, 256, 2, True),
    (28, 128, 28, 128, 2, False),
    (20, 30, 100, 256, 2, True),
]


class Peer:
    def __init__(self, given):
        self.name, self.commit, path = given.split("=", 2)
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def seconds(self, case):
        self.process.stdin.write(json.dumps({**case, "repeats": 1}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the peer program of {self.name} ended early")
        return json.loads(line)["seconds"][0]


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return names[0] if names else "unknown"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", nargs="+", metavar="NAME=COMMIT=PEER")
    parser.add_argument("--cells", default="LSTM")
    parser.add_argument("--modes", default="train,infer")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out")
    args = parser.parse_args()
    peers = [Peer(given) for given in args.peers]
    cases = []
    for cell in args.cells.split(","):
        for mode in args.modes.split(","):
            for threads in map(int, args.threads.split(",")):
                gains = [[] for _ in peers[1:]]
                for t, b, i, h, layers, bi in SIZES:
                    case = dict(cell=cell, t=t, b=b, i=i, h=h, layers=layers, bi=bi, mode=mode, threads=threads)
                    rounds = [[peer.seconds(case) for peer in peers] for _ in range(args.rounds)]
                    cases.append({**case, "seconds": rounds})
                    for k, gain in enumerate(gains):
                        gain.append(statistics.median(times[k] / times[k + 1] for times in rounds))
                for peer, gain in zip(peers[1:], gains):
                    mean = math.exp(statistics.fmean(map(math.log, gain)))
                    print(f"{cell} {mode:5} {threads} thread{'s'[:threads - 1]:1} {peer.name}: {mean:.2f} (lowest {min(gain):.2f})", flush=True)
    if args.out:
        document = {
            "what": "seconds per call of builds of several commits, which take turns: a list for each round, in the order of the steps",
            "date": datetime.date.today().isoformat(),
            "cpu": processor(),
            "rounds": args.rounds,
            "steps": [{"name": peer.name, "commit": peer.commit} for peer in peers],
            "cases": cases,
        }
        with open(args.out + ".tmp", "w", encoding="utf-8") as file:
            # A case to a line.
            file.write(json.dumps(document).replace('}, {"cell"', '},\n{"cell"') + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(args.out + ".tmp", args.out)


if __name__ == "__main__":
    main()
