#!/usr/bin/env python3
"""Tests of scripts/performance-report. The GPU file is invented here, for a GPU that there is not, in a temporary folder: nothing of it
is ever in benches/results/ or docs/."""

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
