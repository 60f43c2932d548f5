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
            # The graph twice as fast as the steps; the fastest of cuDNN 3/4 of the graph's time, then 5/4.
            of_cudnn = 0.75 if batch == 64 else 1.25
            for contender, seconds in (
                ("gatefold stepwise", 8e-3),
                ("gatefold graph", 4e-3),
                ("cuDNN standard", 4e-3 * of_cudnn * 2),
                ("cuDNN persist static", 4e-3 * of_cudnn),
            ):
                rows.append(row("sequence", contender, what, seconds * factor, case=case, mode=mode, flops=1))
    case = {"cell": "LSTM", "precision": "bf16", "batch": 64, "hidden": 512, "seq": 64}
    rows.append(row("pointwise", "gatefold", "LSTM bf16 B64 H512 T64", 128e-6, case=case, mode="training", bytes=int(128e-6 * 1e12)))
    rows.append(row("training", "gatefold graph", "MNIST", 2e-3, samples=128))
    return {
        "format": "gatefold-gpu-bench-1",
        "header": {
            "gpu": "Invented GPU", "compute_capability": "99.0", "multiprocessors": 7, "memory_bytes": 3 << 30, "driver": "1.2.3", "cuda_of_driver": "99.9",
            "cublas": "99.1.2", "cudnn": "9.98.7", "no_cudnn": None, "date": "2001-02-03T04:05:06Z", "commit": "abcdef0", "gatefold": "0.0.0",
            "softgpu": False, "smoke": False, "only": "", "seconds_allowed": 1, "seconds_spent": 1,
        },
        "contenders": ["gatefold stepwise", "gatefold graph", "cuDNN standard", "cuDNN persist static", "cuDNN persist dynamic"],
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
                cases.append({**case, **{f"{name}_seconds": of for name, of in times.items() if name == "gatefold" or name in peers}})
    return {
        "date": "2001-02-03", "commit": "abcdef0", "cpu": "Invented CPU", "torch": "9.8.7", "rounds": 3, "cases": cases,
        "versions": {"torch": "9.8.7", "onnxruntime": "9.8.6", "candle": "9.8.5", "burn": "9.8.4"},
        "slow_rounds": {"candle": 1, "burn": 1},
        "missing": [{"peer": "candle", "cell": "RNN", "mode": mode, "why": "candle has none"} for mode in ("train", "infer")],
        "peak": {"instructions": "AVX-99", "gflops": {"1": [90, 1000, 3000], "2": [2000]}},
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
        self.assertIn("No GPU has run this version", page)
        self.assertEqual(page.count("| never |"), 10)
        for word in ("cuDNN ms", "samples/s |", "GB/s", "multiprocessors"):
            self.assertNotIn(word, page)
        self.assertFalse((self.folder / "docs/performance").exists())

    def test_a_file_of_pytorch_alone_is_read_as_before(self):
        data = invented_cpu(peers=("torch",))
        for name in ("versions", "slow_rounds", "missing", "peak", "memory"):
            del data[name]
        self.write(data, "cpu-2001-02-03.json")
        page = self.page()
        self.assertIn("f32; Invented CPU; PyTorch 9.8.7; commit abcdef0; medians of 3 alternating rounds in one run (`", page)
        self.assertEqual(self.line(page, "| LSTM training | 2"), "| LSTM training | 2 | 2.00 | 2.00 |")
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
        # Training: PyTorch alone. Inference: √(0.5 · 2) = 1; of ONNX Runtime √(0.5 · 8) = 2; burn has one size of two.
        self.assertEqual(self.line(page, "| LSTM training | 1"), "| LSTM training | 1 | 2.00 | 2.00 | 2.00 | – | 5.00 | 7.00 (1) |")
        self.assertEqual(self.line(page, "| LSTM inference | 1"), "| LSTM inference | 1 | 1.00 | 0.50 | 2.00 | 2.00 | 5.00 | 7.00 (1) |")
        training = page[page.index("### LSTM training, 1 thread") : page.index("### LSTM training, 2 threads")]
        self.assertNotIn("ONNX", training)
        table = page[page.index("### LSTM inference, 1 thread") :]
        self.assertEqual(self.line(table, "| T,"), "| T, B, I, H, layers, directions | gatefold ms | PyTorch ms | ONNX Runtime ms | candle ms | burn ms | ratio |")
        self.assertEqual(self.line(table, "| 10,"), "| 10, 2, 64, 64, 2, 2 | 10 | 20 | 5 | 50 | 70 | 0.50 |")
        self.assertEqual(self.line(table, "| 100,"), "| 100, 32, 128, 256, 2, 2 | 10 | 20 | 80 | 50 | – | 2.00 |")
        self.assertIn("- candle, RNN training and RNN inference: candle has none.", page)

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
        self.assertIn("(AVX-99), measured between the cases, reach 1000 GFLOP/s with 1 thread and 2000 GFLOP/s with 2 threads", page)
        # Multiply-adds of an LSTM with both directions, T·B rows, 4·256 gates: first layer (2·(128 + 256) + 256), second
        # (2·(512 + 256) + 256 + 512); 43.6 GFLOP in 10 and 6 ms.
        self.assertEqual(2 * 3200 * 2 * 1024 * (1024 + 2304), 43620761600)
        table = page[page.index("beside the peak") :]
        self.assertEqual(self.line(table, "| LSTM training"), "| LSTM training | 100, 32, 128, 256, 2, 2 | 4362 | 436 % | 7270 | 364 % | 1.67 |")
        self.assertNotIn("| LSTM training | 10, 2", table)

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
        for word in ("driver 1.2.3", "CUDA 99.9", "cuBLAS 99.1.2", "cuDNN 9.98.7", "commit abcdef0"):
            self.assertIn(word, page)
        # √(0.75 · 1.25) = 0.97
        self.assertEqual(self.line(page, "| LSTM bf16, forward, inference"), "| LSTM bf16, forward, inference | 2 | 0.97 | 0.75 | 1.25 |")
        table = page[page.index("#### LSTM bf16, forward, inference") :]
        self.assertEqual(self.line(table, "| 64, 512, 512"), "| 64, 512, 512 | 8 | 4 | 3 (persist static) | 0.75 |")
        self.assertEqual(self.line(table, "| 64, 2048, 256"), "| 64, 2048, 256 | – | – | – | not run |")
        graphs = page[page.index("### Steps launched one by one") :]
        self.assertEqual(self.line(graphs, "| 1, 256, 512"), "| 1, 256, 512 | 2.00 (1) | 2.00 (1) | 2.00 (1) |")

    def test_the_rest_is_there(self):
        self.write(invented())
        page = self.page()
        self.assertIn("| LSTM bf16 B64 H512 T64 | training | 2 | 1000 | 47 % |", page)
        self.assertIn("| MNIST | gatefold graph | 2 | 64,000 |", page)
        self.assertIn("| cuDNN persist dynamic | CUDNN_STATUS_NOT_SUPPORTED by cudnnRNNForward | 1 |", page)

    def test_what_never_ran_is_named(self):
        self.write(invented())
        missing = self.page()
        missing = missing[missing.index("Never run on the Invented GPU") :]
        self.assertEqual(self.line(missing, "| 64, 2048, 256"), "| 64, 2048, 256 | everything |")
        self.assertNotIn("LSTM bf16", self.line(missing, "| 64, 512, 512"))
        self.assertIn("GRU bf16", self.line(missing, "| 64, 512, 512"))
        # What the rows answer is no question any more; nothing persistent ran.
        self.assertNotIn("better default", missing)
        self.assertIn("Persistent kernels", missing)

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
        self.assertIn("fedcba9", page)
        self.assertNotIn("abcdef0", page)

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
