#!/usr/bin/env python3
"""Tests of scripts/performance-report. The files are invented here, for a GPU and a processor that there are not, in a temporary folder:
nothing of them is ever in benches/results/ or docs/."""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
SIZES = [(64, 512, 512), (1, 256, 512)]


def row(group, contender, what, seconds, **more):
    return {"group": group, "contender": contender, "what": what, "n": 10, "calls": 20, "median_s": seconds, "min_s": seconds * 0.9, **more}


def invented():
    rows = [row("copy", "driver", "1024 MiB", 1e-3, bytes=2 << 30)]
    for batch, hidden, seq in SIZES:
        for mode, factor in (("inference", 1.0), ("training", 1.5), ("backward", 4.0)):
            case = {"cell": "LSTM", "precision": "bf16", "batch": batch, "hidden": hidden, "seq": seq}
            what = f"LSTM bf16 B{batch} H{hidden} T{seq}"
            # The graph twice as fast as the steps; the fastest of cuDNN 3/4 of the graph's time, then 5/4, and as it is called thrice that.
            of_cudnn = 0.75 if batch == 64 else 1.25
            for contender, seconds, difference in (
                ("gatefold stepwise", 8e-3, None),
                ("gatefold graph", 4e-3, 0),
                ("cuDNN standard", 4e-3 * of_cudnn * 5, 1e-3),
                ("cuDNN standard graph", 4e-3 * of_cudnn * 2, 1e-3),
                ("cuDNN persist static", 4e-3 * of_cudnn * 3, 1e-3 if batch == 64 else 1.001e-3),
                ("cuDNN persist static graph", 4e-3 * of_cudnn, 1e-3 if batch == 64 else 1.001e-3),
            ):
                rows.append(row("sequence", contender, what, seconds * factor, case=case, mode=mode, flops=1, difference=difference))
    case = {"cell": "LSTM", "precision": "bf16", "batch": 64, "hidden": 512, "seq": 64}
    rows.append(row("pointwise", "gatefold", "LSTM bf16 B64 H512 T64", 128e-6, case=case, mode="training", bytes=int(128e-6 * 1e12)))
    rows.append(row("training", "gatefold graph", "MNIST", 2e-3, samples=128))
    return {
        "format": "gatefold-gpu-bench-1",
        "header": {
            "gpu": "Invented GPU", "compute_capability": "99.0", "multiprocessors": 7, "memory_bytes": 3 << 30, "driver": "1.2.3", "cuda_of_driver": "99.9",
            "cublas": "99.1.2", "cudnn": "9.98.7", "no_cudnn": None, "date": "2001-02-03T04:05:06Z", "commit": "abcdef0", "gatefold": "0.0.0",
            "softgpu": False, "smoke": False, "only": "", "contender": "", "row_ms": 7, "seconds_allowed": 1, "seconds_spent": 1,
        },
        "contenders": ["gatefold stepwise", "gatefold graph", "cuDNN standard", "cuDNN standard graph", "cuDNN persist static", "cuDNN persist static graph",
                       "cuDNN persist dynamic"],
        "tolerances": {"f32": 1e-4, "TF32": 8e-3, "f16": 8e-3, "bf16": 6e-2},
        "rows": rows,
        "refused": [{"what": "LSTM bf16 B64 H512 T512", "contender": "cuDNN persist dynamic", "status": "CUDNN_STATUS_NOT_SUPPORTED by cudnnRNNForward"}],
        "wrong": [],
        "left_out": ["sequence: GRU bf16 B64 H512 T512"],
    }


def invented_cpu(peers=("torch", "onnxruntime", "candle", "burn")):
    """Two sizes, one thread and two. gatefold takes 10 ms, with two threads 6; the others multiples of it."""
    cases = []
    for mode in ("train", "infer"):
        for threads in (1, 2):
            for k, (t, b, i, h) in enumerate([(10, 2, 64, 64), (100, 32, 128, 256)]):
                ours = 0.01 if threads == 1 else 0.006
                case = {"cell": "LSTM", "t": t, "b": b, "i": i, "h": h, "layers": 2, "bi": True, "mode": mode, "threads": threads}
                times = {"gatefold": [ours * 0.5, ours, ours * 3], "torch": [ours * 2] * 3, "candle": [ours * 5]}
                if mode == "infer":
                    times["onnxruntime"] = [ours * (0.5, 8)[k]] * 3
                if k == 0:
                    times["burn"] = [ours * 7]
                if mode == "train":
                    # The slowest round has the lowest: its share is the largest.
                    case["peak_gflops"] = [8000 * threads, 8000 * threads, 1000 * threads]
                cases.append({**case, **{f"{name}_seconds": of for name, of in times.items() if name == "gatefold" or name in peers}})
    return {
        "date": "2001-02-03", "commit": "abcdef0", "cpu": "Invented CPU", "torch": "9.8.7", "rounds": 3, "cases": cases,
        "versions": {"torch": "9.8.7", "onnxruntime": "9.8.6", "candle": "9.8.5", "burn": "9.8.4"},
        "slow_rounds": {"candle": 1, "burn": 1},
        "missing": [{"peer": "candle", "cell": "RNN", "mode": mode, "why": "candle has none"} for mode in ("train", "infer")],
        "peak_instructions": "AVX-99",
        "memory": {
            "cell": "LSTM", "t": 10, "b": 2, "i": 64, "h": 64, "layers": 1, "bi": False, "mode": "train", "threads": 2, "steps": 3,
            "gatefold": {"before_bytes": 10 << 20, "peak_bytes": 30 << 20}, "torch": {"before_bytes": 200 << 20, "peak_bytes": 260 << 20},
        },
    }


class Report(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        (self.folder / "results").mkdir()

    def write(self, data, name="gpu-invented.json"):
        (self.folder / "results" / name).write_text(json.dumps(data))

    def report(self, *arguments):
        command = [sys.executable, ROOT / "scripts/performance-report", "--results", self.folder / "results", "--docs", self.folder / "docs", *arguments]
        return subprocess.run(command, capture_output=True, text=True)

    def page(self):
        done = self.report()
        self.assertEqual(done.returncode, 0, done.stderr)
        return (self.folder / "docs/performance.md").read_text()

    def line(self, page, start):
        found = [line for line in page.splitlines() if line.startswith(start)]
        self.assertTrue(found, f"no line begins with {start!r} in\n{page}")
        return found[0]

    def test_the_page_in_the_repository_is_what_the_script_writes(self):
        done = subprocess.run([ROOT / "scripts/performance-report", "--check"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_without_a_gpu_file_there_is_no_gpu_number(self):
        page = self.page()
        self.assertIn("none of its 120 networks, 3 cells (LSTM, GRU, RNN tanh) in 4 precisions (f32, TF32, f16, bf16) at 10 sizes, has a time", page)
        self.assertIn("The latency of a barrier", page)
        for word in ("µs a step", "samples/s |", "GB/s", "multiprocessors", "The target"):
            self.assertNotIn(word, page)
        self.assertFalse((self.folder / "docs/performance").exists())

    def test_a_part_of_a_run_is_left_out(self):
        self.write(invented_cpu(peers=("torch",)), "cpu-2001-02-03.json")
        page = self.page()
        self.write(invented_cpu(), "cpu-2001-02-03-partial.json")
        self.assertEqual(self.page(), page)

    def test_a_file_of_pytorch_alone_is_read_as_before(self):
        data = invented_cpu(peers=("torch",))
        for name in ("versions", "slow_rounds", "missing", "peak_instructions", "memory"):
            del data[name]
        for case in data["cases"]:
            case.pop("peak_gflops", None)
        self.write(data, "cpu-2001-02-03.json")
        page = self.page()
        self.assertIn("f32; Invented CPU; PyTorch 9.8.7; commit abcdef0; medians of 3 alternating rounds in one run (`", page)
        self.assertEqual(self.line(page, "| LSTM training | 2"), "| LSTM training | 2 | 2.00 | 2.00 | 2.00 |")
        self.assertEqual(self.line(page, "| 100, 32, 128, 256, 2, 2"), "| 100, 32, 128, 256, 2, 2 | 10 | 20 | 2.00 |")
        self.assertIn("On the CPU, ONNX Runtime, candle and burn are not in the comparison yet.", page)
        for word in ("beside the peak", "Memory of", "Not in the tables", "geometric means of the ratios"):
            self.assertNotIn(word, page)
        self.assertEqual([path.name for path in (self.folder / "docs/performance").iterdir()], ["cpu.svg"])

    def test_the_better_of_pytorch_and_onnx_runtime_counts(self):
        self.write(invented_cpu(), "cpu-2001-02-03.json")
        page = self.page()
        self.assertIn("PyTorch 9.8.7, ONNX Runtime 9.8.6, candle 9.8.5, burn 9.8.4; commit", page)
        self.assertIn("medians of 3 alternating rounds in one run, candle in 1 of them and burn in 1 of them (`", page)
        self.assertIn("On the CPU, time to build,", page)
        self.assertIn("candle (layers, directions and loop over time by hand) and burn (layers by hand) are built for this", page)
        # Training: PyTorch alone. Inference: √(0.5 · 2) = 1, in the middle 1.25; of ONNX Runtime √(0.5 · 8) = 2; burn has one size of two.
        self.assertEqual(self.line(page, "| LSTM training | 1"), "| LSTM training | 1 | 2.00 | 2.00 | 2.00 | 2.00 | – | 5.00 | 7.00 (1) |")
        self.assertEqual(self.line(page, "| LSTM inference | 1"), "| LSTM inference | 1 | 1.00 | 1.25 | 0.50 | 2.00 | 2.00 | 5.00 | 7.00 (1) |")
        training = page[page.index("### LSTM training, 1 thread") : page.index("### LSTM training, 2 threads")]
        self.assertNotIn("ONNX", training)
        table = page[page.index("### LSTM inference, 1 thread") :]
        self.assertEqual(self.line(table, "| T,"), "| T, B, I, H, layers, directions | gatefold ms | PyTorch ms | ONNX Runtime ms | candle ms | burn ms | ratio |")
        self.assertEqual(self.line(table, "| 10,"), "| 10, 2, 64, 64, 2, 2 | 10 | 20 | 5 | 50 | 70 | 0.50 |")
        self.assertEqual(self.line(table, "| 100,"), "| 100, 32, 128, 256, 2, 2 | 10 | 20 | 80 | 50 | – | 2.00 |")
        self.assertIn("- candle, RNN training and RNN inference: candle has none.", page)

    def test_a_file_without_burn(self):
        data = invented_cpu(peers=("torch", "onnxruntime", "candle"))
        data["missing"].append({"peer": "burn", "cell": "LSTM", "mode": "train", "why": "burn has none"})
        del data["versions"]["burn"], data["slow_rounds"]["burn"]
        self.write(data, "cpu-2001-02-03.json")
        page = self.page()
        self.assertIn("candle 9.8.5; commit", page)
        self.assertIn("candle (layers, directions and loop over time by hand) is built for this", page)
        self.assertEqual(self.line(page, "| LSTM inference | 1"), "| LSTM inference | 1 | 1.00 | 1.25 | 0.50 | 2.00 | 2.00 | 5.00 |")
        self.assertIn("- burn, LSTM training: burn has none.", page)
        self.assertIn("On the CPU, burn is not in the comparison yet.", page)

    def test_calls_of_a_few_steps(self):
        data = invented_cpu(peers=("torch", "onnxruntime"))
        few = {"cell": "GRU", "t": 1, "b": 1, "i": 8, "h": 16, "layers": 1, "bi": False, "mode": "steps"}
        # The better of the two: 3 and 12 times as long with one thread, half as long with two.
        data["cases"] += [
            {**few, "threads": 1, "gatefold_seconds": [2e-6], "torch_seconds": [9e-6], "onnxruntime_seconds": [6e-6]},
            {**few, "threads": 1, "t": 8, "gatefold_seconds": [1e-6], "torch_seconds": [12e-6], "onnxruntime_seconds": [14e-6]},
            {**few, "threads": 2, "gatefold_seconds": [4e-6], "torch_seconds": [9e-6], "onnxruntime_seconds": [2e-6]},
        ]
        self.write(data, "cpu-2001-02-03.json")
        page = self.page()
        section = page[page.index("### One step, or a few, in a call") :]
        self.assertIn("PyTorch and ONNX Runtime: 6.00 with 1 thread (lowest 3.00) and 0.50 with 2 threads (lowest 0.50).", section)
        self.assertEqual(self.line(section, "| GRU | 1, 1"), "| GRU | 1, 1, 8, 16, 1, 1 | 2 | 9 | 6 | 3.00 | 4 | 9 | 2 | 0.50 |")
        self.assertEqual(self.line(section, "| GRU | 8, 1"), "| GRU | 8, 1, 8, 16, 1, 1 | 1 | 12 | 14 | 12.00 | – | – | – | – |")
        # They count nowhere else.
        self.assertEqual(self.line(page, "| LSTM inference | 1"), "| LSTM inference | 1 | 1.00 | 1.25 | 0.50 | 2.00 | 2.00 |")
        self.assertNotIn("| GRU inference", page)

    def test_networks_in_bf16(self):
        data = invented_cpu()
        before = len(data["cases"])
        half = {"cell": "GRU", "t": 10, "b": 2, "i": 64, "h": 64, "layers": 1, "bi": False, "mode": "train", "dtype": "bf16"}
        data["cases"] += [
            {**half, "threads": 1, "gatefold_seconds": [0.002], "torch_seconds": [0.003]},
            {**half, "threads": 2, "gatefold_seconds": [0.001], "torch_seconds": [0.004]},
        ]
        self.write(data, "cpu-2001-02-03.json")
        page = self.page()
        self.assertIn("| GRU training | 10, 2, 64, 64, 1, 1 | 2 | 3 | 1.50 | 1 | 4 | 4.00 |", page)
        self.assertIn("| GRU training | 2 | 4.00 | 4.00 | 4.00 |", page)
        # They are in no table of f32.
        data["cases"] = data["cases"][:before]
        self.write(data, "cpu-2001-02-03.json")
        without = self.page()
        self.assertEqual(page.replace(page[page.index("\n### In bf16"):page.index("\n### Training at H")], ""), without)

    def test_candle_and_burn_of_an_earlier_file(self):
        self.write({**invented_cpu(), "date": "2001-02-02", "commit": "0123456"}, "cpu-2001-02-02.json")
        self.write(invented_cpu(peers=("torch", "onnxruntime")), "cpu-2001-02-03.json")
        page = self.page()
        section = page[page.index("### Beside candle and burn") :]
        self.assertIn("Of an earlier run (2001-02-02, commit 0123456, `benches/results/cpu-2001-02-02.json`): candle 9.8.5 (layers,", section)
        self.assertEqual(self.line(section, "| LSTM training | 1"), "| LSTM training | 1 | 5.00 | 7.00 |")
        self.assertIn("commit abcdef0; medians", page[: page.index("### Beside candle and burn")])

    def test_plots_have_every_peer(self):
        self.write(invented_cpu(), "cpu-2001-02-03.json")
        self.page()
        circles = {}
        for name in ("cpu", "cpu-peers"):
            root = xml.etree.ElementTree.parse(self.folder / f"docs/performance/{name}.svg").getroot()
            circles[name] = len(list(root.iter("{http://www.w3.org/2000/svg}circle")))
        # Four groups of two sizes; PyTorch and candle in each, burn in one size, ONNX Runtime in inference.
        self.assertEqual(circles, {"cpu": 8, "cpu-peers": 8 + 8 + 4 + 4})

    def test_the_share_of_the_peak(self):
        self.write(invented_cpu(), "cpu-2001-02-03.json")
        page = self.page()
        # Multiply-adds of an LSTM with both directions, T·B rows, 4·256 gates: first layer (2·(128 + 256) + 256), second
        # (2·(512 + 256) + 256 + 512); 43.6 GFLOP in 5, 10 and 30 ms, and 3, 6 and 18.
        self.assertEqual(2 * 3200 * 2 * 1024 * (1024 + 2304), 43620761600)
        section = page[page.index("beside the peak") :]
        self.assertIn("multiply-adds (AVX-99) reach from registers", section)
        self.assertIn("means: 109 % with 1 thread (lowest 109 %) and 91 % with 2 threads (lowest 91 %); 2 threads are 1.67 times as fast as 1 (lowest 1.67).", section)
        self.assertEqual(
            self.line(section, "| LSTM training"), "| LSTM training | 100, 32, 128, 256, 2, 2 | 4362 | 8000 | 109 % | 7270 | 16000 | 91 % | 1.67 |"
        )
        self.assertNotIn("| LSTM training | 10, 2", section)

    def test_the_share_of_the_peak_with_one_thread(self):
        data = invented_cpu()
        data["cases"] = [case for case in data["cases"] if case["threads"] == 1]
        self.write(data, "cpu-2001-02-03.json")
        section = self.page()
        section = section[section.index("beside the peak") :]
        self.assertIn("means: 109 % with 1 thread (lowest 109 %).", section)
        self.assertEqual(self.line(section, "| LSTM training"), "| LSTM training | 100, 32, 128, 256, 2, 2 | 4362 | 8000 | 109 % |")

    def test_memory(self):
        self.write(invented_cpu(), "cpu-2001-02-03.json")
        page = self.page()
        self.assertIn("3 training steps of LSTM (10, 2, 64, 64, 1, 1: T, B, I, H, layers, directions) with 2 threads:", page)
        self.assertEqual(self.line(page, "| gatefold |"), "| gatefold | 10 | 30 | 20 |")
        self.assertEqual(self.line(page, "| PyTorch |"), "| PyTorch | 200 | 260 | 60 |")
        data = invented_cpu()
        data["memory"] = None
        self.write(data, "cpu-2001-02-03.json")
        self.assertNotIn("Memory of", self.page())

    def test_steps_gain_over_the_one_before(self):
        case = {"cell": "LSTM", "t": 8, "b": 1, "i": 4, "h": 4, "layers": 1, "bi": False, "mode": "train", "threads": 2}
        # Ratios of the rounds: 2, 2, 8 and 1, 1, 4, whose medians are 2 and 1; of the other size 8 and 1.
        rounds = [[4.0, 2.0, 2.0], [6.0, 3.0, 3.0], [8.0, 1.0, 0.25]]
        steps = [{"name": name, "commit": f"c{k}"} for k, name in enumerate(("before", "packed", "fetched"))]
        data = {"what": "", "date": "2001-02-03", "cpu": "Invented CPU", "rounds": 3, "steps": steps,
                "cases": [{**case, "seconds": rounds}, {**case, "h": 8, "seconds": [[8.0, 1.0, 1.0]] * 3}]}
        self.write(data, "steps-2001-02-03.json")
        page = self.page()
        self.assertIn("from commit c0 on; Invented CPU. Builds of the commits took turns in 3 rounds;", page)
        self.assertEqual(self.line(page, "|  | LSTM training, 2"), "|  | LSTM training, 2 threads |")
        self.assertEqual(self.line(page, "| packed"), "| packed (c1) | 4.00 |")
        self.assertEqual(self.line(page, "| fetched"), "| fetched (c2) | 1.00 |")
        self.assertEqual(self.line(page, "| all"), "| all of them | 4.00 |")

    def test_a_case_without_a_rival_is_refused(self):
        data = invented_cpu(peers=("candle",))
        self.write(data, "cpu-2001-02-03.json")
        done = self.report()
        self.assertEqual(done.returncode, 1)
        self.assertIn("a case without a time of PyTorch or ONNX Runtime: LSTM training, 10, 2, 64, 64, 2, 2", done.stderr)

    def test_ratios_are_computed_from_the_fastest(self):
        self.write(invented())
        page = self.page()
        self.assertIn("## Invented GPU, 2001-02-03", page)
        for word in ("driver 1.2.3", "CUDA 99.9", "cuBLAS 99.1.2", "cuDNN 9.98.7", "commit abcdef0 (`benches/results/gpu-invented.json`).", "events, 7 ms together."):
            self.assertIn(word, page)
        # √(0.75 · 1.25) = 0.97, and thrice that.
        self.assertEqual(self.line(page, "| LSTM bf16 |"), "| LSTM bf16 | 6 of 30 | 0.97 | 0.97 | 0.97 | 0.97 | 0.75 | 2.90 | 2.25 |")
        table = page[page.index("#### LSTM bf16") :]
        self.assertEqual(self.line(table, "| 64, 512, 512 | inf"), "| 64, 512, 512 | inference | 7.81 graph | 5.86 persist static graph | 0.75 | 17.6 persist static | 2.25 |")
        self.assertEqual(self.line(table, "| 1, 256, 512 | forw"), "| 1, 256, 512 | forward and backward | 31.2 graph | 39.1 persist static graph | 1.25 | 117 persist static | 3.75 |")
        graphs = page[page.index("### Launches over the same as a graph") :]
        self.assertEqual(self.line(graphs, "| 1, 256, 512"), "| 1, 256, 512 | 2.00 (1) | 2.00 (1) | 2.00 (1) | 2.50 (1) | 2.50 (1) | 2.50 (1) |")
        self.assertNotIn("### Steps over the fastest persistent kernel", page)

    def test_the_target_is_answered(self):
        self.write(invented())
        page = self.page()
        self.assertIn("gatefold's own steps. It is not reached in what was timed.", page)
        self.assertEqual(self.line(page, "- In bf16 gatefold"), "- In bf16 gatefold is 0.97 times as fast as the fastest cuDNN (6 of 90 cases), and 2.90 times as fast as cuDNN as it is"
                         " called (6 cases). It is slower than the fastest cuDNN in 3 of 6 cases, by more than 5 % in 3; in all precisions in 3 of 6 cases, by more than 5 % in 3.")
        self.assertIn("is 0.75: LSTM bf16 B64 H512 T512, inference, 7.81 graph against 5.86 persist static graph, µs a step.", page)
        data = invented()
        for of in data["rows"]:
            if of["contender"].startswith("gatefold"):
                of["median_s"] /= 4
        # A persistent kernel has run in one case of six; in the others it was left out.
        data["contenders"].append("gatefold persistent")
        persistent = next(of for of in data["rows"] if of["contender"] == "gatefold graph")
        data["rows"].append({**persistent, "contender": "gatefold persistent", "median_s": persistent["median_s"] * 2})
        self.write(data)
        page = self.page()
        self.assertIn("gatefold's own steps. It is reached in what was timed.", page)
        self.assertIn("a persistent kernel is faster than steps in 0 of 1 cases.", page)
        self.assertIn("- In 5 of the 6 cases not all of gatefold's algorithms were timed;", page)
        stays = page[page.index("### Steps over the fastest persistent kernel") :]
        self.assertEqual(self.line(stays, "| 64, 512, 512"), "| 64, 512, 512 | – | – | – | 0.50 (1) |")

    def test_a_case_counts_when_no_captured_cudnn_was_left_out(self):
        data = invented()
        gone = [of for of in data["rows"] if of["contender"] == "cuDNN standard graph" and of["what"] == "LSTM bf16 B64 H512 T512"]
        data["rows"] = [of for of in data["rows"] if of not in gone]
        self.write(data)
        page = self.page()
        self.assertEqual(self.line(page, "| LSTM bf16 |"), "| LSTM bf16 | 3 of 30 | 1.25 | 1.25 | 1.25 | 1.25 | 1.25 | 2.90 (6) | 2.25 |")
        self.assertEqual(self.line(page, "| 64, 512, 512 | inf"), "| 64, 512, 512 | inference | 7.81 graph | – | – | 17.6 persist static | 2.25 |")
        # Refused or wrong it is not left out.
        for why in ("refused", "wrong"):
            self.write({**data, why: [{"refused": {"what": gone[0]["what"], "contender": gone[0]["contender"], "status": "no"}, "wrong": f"{gone[0]['what']}, cuDNN standard graph: y is off"}[why]]})
            self.assertEqual(self.line(self.page(), "| LSTM bf16 |"), "| LSTM bf16 | 6 of 30 | 0.97 | 0.97 | 0.97 | 0.97 | 0.75 | 2.90 | 2.25 |")
        # A file without any has no ratio but to cuDNN as it is called.
        data["rows"] = [of for of in data["rows"] if not of["contender"].startswith("cuDNN") or not of["contender"].endswith("graph")]
        data["contenders"] = [name for name in data["contenders"] if name.startswith("gatefold") or not name.endswith("graph")]
        self.write(data)
        page = self.page()
        self.assertEqual(self.line(page, "| LSTM bf16 |"), "| LSTM bf16 | 0 of 30 | – | – | – | – | – | 2.90 (6) | 2.25 |")
        self.assertIn("No bf16 was timed beside a captured cuDNN", page)

    def test_what_cudnn_calls_persistent(self):
        self.write(invented())
        page = self.page()
        table = page[page.index("### cuDNN's persistent algorithms") :]
        self.assertEqual(self.line(table, "| bf16"), "| bf16 | 2 of 2, 1 as standard | 0 of 1 | – |")

    def test_the_rest_is_there(self):
        self.write(invented())
        page = self.page()
        self.assertIn("| LSTM bf16 B64 H512 T64 | training | 2 | 1000 | 47 % |", page)
        self.assertIn("| MNIST | gatefold graph | 2 | 64,000 |", page)
        self.assertIn("| cuDNN persist dynamic | 1 | LSTM bf16 B64 H512 T512 | CUDNN_STATUS_NOT_SUPPORTED by cudnnRNNForward |", page)

    def test_what_never_ran_is_named(self):
        self.write(invented())
        missing = self.page()
        missing = missing[missing.index("Never run on the Invented GPU") :]
        self.assertEqual(self.line(missing, "| 64, 2048, 256"), "| 64, 2048, 256 | everything |")
        self.assertNotIn("LSTM bf16", self.line(missing, "| 64, 512, 512"))
        self.assertIn("GRU bf16", self.line(missing, "| 64, 512, 512"))
        # What the rows answer is no question any more; nothing persistent ran.
        for answered in ("as one CUDA graph, the default", "in a CUDA graph of its caller's", "how that compares with cuDNN", "device copy's bandwidth"):
            self.assertNotIn(answered, missing)
        for open_yet in ("From which batch and hidden size on a persistent", "The latency of a barrier", "matrix product of a step", "Samples per second"):
            self.assertIn(open_yet, missing)

    def test_plots_are_svg_with_a_dot_for_each_size(self):
        self.write(invented())
        self.page()
        for mode in ("inference", "training", "backward"):
            root = xml.etree.ElementTree.parse(self.folder / f"docs/performance/gpu-invented-gpu-{mode}.svg").getroot()
            dots = [float(dot.get("cx")) for dot in root.iter("{http://www.w3.org/2000/svg}circle")]
            self.assertEqual(len(dots), len(SIZES))
            # The line at 1 is between them.
            one = [line for line in root.iter("{http://www.w3.org/2000/svg}line") if line.get("stroke") == "#444"]
            self.assertTrue(min(dots) < float(one[0].get("x1")) < max(dots))

    def test_wrong_results_are_told(self):
        data = invented()
        data["wrong"] = ["LSTM bf16 B64 H512 T512, cuDNN standard: y is off by 1.000e0"]
        self.write(data)
        self.assertIn("- LSTM bf16 B64 H512 T512, cuDNN standard: y is off by 1.000e0", self.page())

    def test_the_newest_file_of_a_gpu_counts(self):
        old, new = invented(), invented()
        new["header"]["date"], new["header"]["commit"] = "2001-03-03T00:00:00Z", "fedcba9"
        self.write(new, "gpu-a.json")
        self.write(old, "gpu-b.json")
        page = self.page()
        self.assertIn("commit fedcba9 (`benches/results/gpu-a.json`).", page)
        self.assertIn("Of another commit, driver or library, and not counted: `gpu-b.json` (commit abcdef0).", page)

    def test_files_of_one_commit_are_merged(self):
        old, new = invented(), invented()
        new["header"]["date"], new["header"]["row_ms"] = "2001-02-03T05:00:00Z", 9
        # The newer has the graph of one size only, and faster; the older's wrong results are told all the same.
        new["rows"] = [of for of in new["rows"] if of["contender"] == "gatefold graph" and of.get("case", {}).get("batch") == 1]
        for of in new["rows"]:
            of["median_s"] /= 2
        new["refused"], old["wrong"] = [{"what": "LSTM bf16 B1 H256 T512", "contender": "cuDNN standard", "status": "no"}], ["something"]
        self.write(new, "gpu-a.json")
        self.write(old, "gpu-b.json")
        page = self.page()
        self.assertIn("commit abcdef0 (`benches/results/gpu-a.json` and `benches/results/gpu-b.json`, merged: of what is in several the newest counts).", page)
        self.assertIn("events, 7 or 9 ms together. All contenders have the same inputs and weights in one process for each file,", page)
        self.assertIn("| 64, 512, 512 | inference | 7.81 graph |", page)
        self.assertIn("| 1, 256, 512 | inference | 3.91 graph |", page)
        self.assertIn("| MNIST | gatefold graph | 2 | 64,000 |", page)
        self.assertIn("- something", page)
        # The graph of one size, in each of its passes.
        self.assertRegex(page, r"- In 3 of the \d+ cases the two times are of two processes")
        # Refused by one, timed by another.
        self.assertNotIn("| cuDNN standard | 1 |", page)
        for key in ("driver", "cudnn"):
            self.write({**new, "header": {**new["header"], key: "9.9.9"}}, "gpu-a.json")
            page = self.page()
            self.assertNotIn("merged: of", page)
            self.assertIn("not counted: `gpu-b.json` (commit abcdef0).", page)

    def write_lines(self, name, lines):
        (self.folder / "results" / name).write_text("".join(json.dumps(line) + "\n" for line in lines))

    def test_latencies(self):
        at = lambda kind, value, **more: {"kind": kind, "value": value, **more}
        lines = [
            {"kind": "machine", "gpu": "Invented GPU", "sms": 7, "l2_bytes": 3 << 20, "smem_optin": 5 << 10},
            at("grid_sync", 1.5, blocks=7), at("counter_barrier", 0.25, blocks=7), at("flag_barrier", 2.5, blocks=7, stride_words=1), at("flag_barrier", -1, blocks=7, stride_words=32),
            at("exchange_through_l2", 3.25, blocks=7, state_kib=6), at("exchange_through_l2", 4.25, blocks=7, state_kib=16),
            at("cluster_sync", 0.5, cluster=2), at("max_active_clusters", 11, cluster=2, smem_kib=40),
            at("exchange_through_dsmem", 1.0, cluster=2, groups=1, state_kib=8), at("exchange_through_dsmem", 1.25, cluster=2, groups=3, state_kib=8),
            at("mma_sync_bf16", 100, threads=128), at("mma_sync_bf16", 200, threads=512), at("smem_read", 5000), at("device_copy", 1234.5),
            at("kernel_in_graph", 0.5), at("kernel_launched", 4.0), {"kind": "error", "call": "f", "error": "no"},
        ]
        self.write_lines("latencies.json", lines)
        page = self.page()
        section = page[page.index("## Invented GPU: barriers") : page.index("## Not measured")]
        self.assertIn("7 multiprocessors, 3 MiB of L2, up to 5 KiB of shared memory", section)
        self.assertEqual(self.line(section, "| blocks |"), "| blocks | grid.sync() | counter | flags, 4 bytes | flags, 128 bytes | 8 KiB | 16 KiB |")
        self.assertEqual(self.line(section, "| 7 |"), "| 7 | 1.50 | 0.25 | 2.50 | – | 3.25 (6) | 4.25 |")
        self.assertIn("3 at once take at most 25 % longer", section)
        self.assertEqual(self.line(section, "| 2 |"), "| 2 | 0.50 | 11 | 1.00 |")
        self.assertIn("reaches 200 TFLOP/s with 512 threads a block, shared memory is read at 5 TB/s and a copy of device memory moves 1234 GB/s.", section)
        self.assertIn("takes 4.00 µs where the host launches one after another, and 0.50 µs in a CUDA graph.", section)
        self.assertNotIn("The latency of a barrier", page)
        self.assertIn("has no file of `benches/cuda.rs` yet", page)
        lines[0]["gpu"] = "NVIDIA H200 (softgpu)"
        self.write_lines("latencies.json", lines)
        self.assertIn("latencies.json: not of one GPU", self.report().stderr)

    def test_cudnn_through_pytorch(self):
        def net(cell, dtype, batch, hidden, ms, **more):
            times = {f"{mode}{what}": value for k, mode in enumerate(("inference", "forward", "forward_backward")) for what, value in (("_ms", ms * (k + 1)), ("_n", 5 + k))}
            return {"kind": "recurrent", "cell": cell, "dtype": dtype, "batch": batch, "hidden": hidden, "seq": 100, "layers": 1, "bidirectional": False, **times, **more}

        lines = [
            {"kind": "machine", "gpu": "Invented GPU", "torch": "9.8.7", "cudnn": 91203},
            net("lstm", "bf16", 1, 64, 2.0), net("lstm", "tf32", 1, 64, 0.1), net("lstm", "bf16", 2, 64, 3.0), net("gru", "f16", 1, 64, 1.0),
            net("gru", "bf16", 4, 32, 8.0, layers=2, bidirectional=True),
            {"kind": "gemm_in_graph", "dtype": "bf16", "m": 1, "n": 256, "k": 64, "us": 2.5},
            {"kind": "error", "job": ["gemm", "tf32", 1, 256, 64], "error": "out of memory"},
            {"kind": "end", "done": 6, "left_out": [["recurrent", "gru", "f32", 1, 64, 100]]},
        ]
        self.write_lines("cudnn.jsonl", lines)
        page = self.page()
        section = page[page.index("## Invented GPU: cuDNN through PyTorch") : page.index("## Not measured")]
        self.assertIn("PyTorch 9.8.7 with cuDNN 9.12.3", section)
        self.assertIn("medians of 5 to 7 samples", section)
        self.assertNotIn("a launch takes", section)
        self.assertEqual(self.line(section, "| B, H, T | LSTM"), "| B, H, T | LSTM bf16 | LSTM TF32 | product, bf16 |")
        self.assertEqual(self.line(section, "| 1, 64, 100 | 20"), "| 1, 64, 100 | 20 / 40 / 60 | 1 / 2 / 3 | 2.5 |")
        self.assertEqual(self.line(section, "| 2, 64, 100"), "| 2, 64, 100 | 30 / 60 / 90 | – | – |")
        self.assertEqual(self.line(section, "| 1, 64, 100 | 10"), "| 1, 64, 100 | 10 / 20 / 30 |")
        self.assertIn("2 layers in both directions; a step is one of all of them:\n\n| B, H, T | GRU bf16 |\n|---|---|\n| 4, 32, 100 | 80 / 160 / 240 |", section)
        self.assertIn("- gemm tf32 1 256 64: out of memory\n- recurrent gru f32 1 64 100: no time was left\n", section)
        self.assertNotIn("matrix product of a step", page)
        # How long a launch takes is told where it was measured on the same GPU.
        for gpu, told in (("Invented GPU", True), ("Another", False)):
            self.write_lines("latencies.json", [{"kind": "machine", "gpu": gpu, "sms": 7, "l2_bytes": 3 << 20, "smem_optin": 5 << 10}, {"kind": "kernel_launched", "value": 4.0}])
            page = self.page()
            self.assertEqual("a launch takes 4.0 µs on this virtual machine" in page, told)
            self.assertEqual("LSTM's inference in bf16, 20 to 30 µs a step" in page, told)
            self.assertEqual("less than one launch a step in 1 of 5 cases" in page, told)

    def test_times_of_the_driver_in_software_are_refused(self):
        for key, value in (("softgpu", True), ("smoke", True), ("gpu", "NVIDIA H200 (softgpu)")):
            data = invented()
            data["header"][key] = value
            self.write(data)
            done = self.report()
            self.assertEqual(done.returncode, 1)
            self.assertIn("its times are not those of a GPU", done.stderr)
        data = invented()
        data["rows"][3]["median_s"] = None
        self.write(data)
        self.assertIn("a row without a time", self.report().stderr)
        self.assertFalse((self.folder / "docs").exists())

    def test_check_sees_what_differs(self):
        self.write(invented())
        self.page()
        self.assertEqual(self.report("--check").returncode, 0)
        (self.folder / "docs/performance/old.svg").write_text("")
        self.assertIn("old.svg", self.report("--check").stderr)
        self.page()
        self.assertFalse((self.folder / "docs/performance/old.svg").exists())
        page = self.folder / "docs/performance.md"
        page.write_text(page.read_text().replace("0.97", "0.98"))
        done = self.report("--check")
        self.assertEqual((done.returncode, "performance.md" in done.stderr), (1, True))


if __name__ == "__main__":
    unittest.main()
