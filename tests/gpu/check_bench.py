#!/usr/bin/env python3
"""Runs benches/cuda.rs at tiny sizes and looks at what it writes: tests/gpu/check_bench.py COMMAND…, which takes the bench's arguments
behind its own, such as `softgpu/run target/…/cuda-0123`. cuDNN must be there. Exit status 0: as it should be."""

import collections
import json
import pathlib
import subprocess
import sys
import tempfile

CELLS, PRECISIONS = ("LSTM", "GRU", "RNN tanh"), ("f32", "TF32", "f16", "bf16")
PERSISTENT = ("gatefold persistent", "gatefold persistent memory", "gatefold persistent cluster")
# cuDNN captured in a CUDA graph, by which scripts/performance-report takes it to be so.
CAPTURED = ("cuDNN standard graph", "cuDNN persist static graph")
COMPARED = ("gatefold graph", *PERSISTENT, "cuDNN standard", "cuDNN persist static", "cuDNN persist dynamic", *CAPTURED)


def run(command, folder, *arguments):
    """The exit status, all that was printed, and the report."""
    path = pathlib.Path(folder) / "report.json"
    path.unlink(missing_ok=True)
    done = subprocess.run([*command, "--smoke", "--output", path, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if not path.exists():
        sys.exit(f"{done.stdout}\ncheck_bench.py: no report was written (exit status {done.returncode})")
    left = [file.name for file in pathlib.Path(folder).iterdir() if file != path]
    check(not left, f"beside the report there is {left}")
    return done.returncode, done.stdout, json.loads(path.read_text())


def check(holds, what, output=""):
    if not holds:
        sys.exit(f"{output}\ncheck_bench.py: {what}")


def main(command):
    with tempfile.TemporaryDirectory() as folder:
        status, output, report = run(command, folder)
        check(status == 0 and not report["wrong"] and not report["left_out"], f"exit status {status}, {report['wrong']}, {report['left_out']}", output)
        rows, software = report["rows"], report["header"]["softgpu"]
        check(report["header"]["cudnn"], f"no cuDNN: {report['header']['no_cudnn']}", output)
        check(report["header"]["smoke"] and all((row["median_s"] is None) == software for row in rows), "times of the driver in software are kept, or others lost")
        check(all(row["n"] == 10 <= row["calls"] for row in rows), "a row has not ten samples")
        count = collections.Counter((row["group"], row.get("mode")) for row in rows)
        ran = collections.Counter((row["case"]["cell"], row["case"]["precision"], row["contender"]) for row in rows if row["group"] == "sequence")
        check(len({key[:2] for key in ran}) == len(CELLS) * len(PRECISIONS), f"not every cell and precision: {sorted(ran)}")
        for cell in CELLS:
            for precision in PRECISIONS:
                for contender in ("gatefold stepwise", "gatefold graph", "cuDNN standard"):
                    # Two sizes, three passes.
                    check(ran[cell, precision, contender] == 6, f"{cell} {precision}, {contender}: {ran[cell, precision, contender]} rows, not 6")
                # Each ran, or its plan was refused, and that is told. Clusters have another number of units.
                refused = {refusal["contender"] for refusal in report["refused"] if refusal["what"].startswith(f"{cell} {precision}")}
                for contender in PERSISTENT + CAPTURED:
                    rows_of = ran[cell, precision, contender]
                    check(rows_of == 6 or contender in refused, f"{cell} {precision}, {contender}: {rows_of} rows, not 6, and no refusal")
        compared = [row for row in rows if row["contender"] in COMPARED and row["group"] == "sequence"]
        check(compared and all("difference" in row for row in compared), "a row was timed without being compared")
        check(set(CAPTURED) == {name for name in report["contenders"] if name.startswith("cuDNN") and name.endswith(" graph")}, f"{report['contenders']}")
        check(count["copy", None] == 2 and count["training", None] == 6 and count["pointwise", "training"] == count["pointwise", "backward"] == 6, f"{count}")
        check(any("CUDNN_STATUS_NOT_SUPPORTED by cudnnSetRNNDescriptor_v8" == refusal["status"] for refusal in report["refused"]) or not software,
              "the driver in software refuses an algorithm, and that is not told")
        if software:
            # Rounding alone differs: TF32's, not f32's.
            worst = {p: max(row["difference"] for row in compared if row["case"]["precision"] == p) for p in PRECISIONS}
            check(worst["f32"] < 1e-5 < worst["TF32"] < worst["bf16"], f"{worst}")

        # No difference allowed: only what agrees bit for bit is timed, the rest is wrong and fails the run.
        status, output, report = run(command, folder, "--tolerance", "0", "--only", "LSTM bf16")
        check(status == 1 and any("cuDNN standard: " in what and " is off by " in what for what in report["wrong"]), f"exit status {status}: {report['wrong']}", output)
        timed = {row["contender"] for row in report["rows"] if row["group"] == "sequence"}
        # The persistent kernels add in another order; where nothing rounds differently they too agree bit for bit.
        check({"gatefold stepwise", "gatefold graph"} == timed - set(PERSISTENT), f"{timed} were timed")

        # Some contenders only, and a row's time: the first computes what they are compared with, and is not timed.
        status, output, report = run(command, folder, "--contender", "graph", "--row", "1", "--only", "LSTM bf16")
        timed = {row["contender"] for row in report["rows"] if row["group"] == "sequence"}
        check(status == 0 and {"gatefold graph", "cuDNN standard graph"} <= timed <= {"gatefold graph", *CAPTURED}, f"exit status {status}: {timed} were timed", output)
        check((report["header"]["contender"], report["header"]["row_ms"]) == ("graph", 1), f"{report['header']}")

        # No time: everything is left out, and listed.
        status, output, report = run(command, folder, "--seconds", "0")
        check(status == 0 and not report["rows"] and len(report["left_out"]) > 24, f"exit status {status}, {len(report['left_out'])} left out", output)
    print("check_bench.py: compared, refused, left out and failed as it should be")


if __name__ == "__main__":
    main(sys.argv[1:])
