"""Times the same work in gatefold, PyTorch, ONNX Runtime, candle and burn, in turn, and prints the ratios of the medians.

    benches/peers/run.py PEER [--rust-peers PROGRAM] [--peers torch,onnxruntime,candle,burn] [--cells LSTM,GRU,RNN]
        [--modes train,infer,steps,train-bf16,infer-bf16] [--threads 1,2] [--sizes 0,1,…] [--rounds 5] [--slow-rounds 1] [--memory-size 7] [--out FILE.json]

PEER is the compiled `peer` example, PROGRAM that of benches/peers/rust. In every round each side runs each case once (several calls), so that a
change in what else the machine does meets all of them, and on the same cores, where the system can hold processes there: those of a rented
machine may differ in speed by half. Rounds take the numbers of threads and the cores in turn, and every other one the sides from the last to the
first; each side begins a twentieth of a second after the one before, whose threads may wait busily for more work until then. Behind a training step
of ours the processor's peak is measured on the same cores: both move with what else the machine does. candle and burn take part in the first
--slow-rounds rounds only. "steps" are inference in calls of one or a few steps with a state to begin with, beside PyTorch and ONNX Runtime: what a
model does that writes its own input. Networks in bf16 are compared with PyTorch's alone. A ratio above 1 means that gatefold is faster. ONNX Runtime only infers. Before anything is timed, what
gatefold and the others compute is compared with PyTorch.
"""

import argparse
import datetime
import json
import math
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import time

import numpy
import torch

RUST = pathlib.Path(__file__).resolve().parent / "rust/Cargo.toml"
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
STEPS = [
    (1, 1, 128, 128, 1, False),
    (1, 1, 256, 256, 2, False),
    (1, 1, 512, 512, 1, False),
    (1, 1, 1024, 1024, 1, False),
    (1, 8, 256, 256, 1, False),
    (1, 32, 256, 256, 1, False),
    (4, 1, 256, 256, 1, False),
    (8, 1, 512, 512, 1, False),
]
PEERS = ["torch", "onnxruntime", "candle", "burn"]
SLOW = ["candle", "burn"]
# What this process may run on.
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
# Seconds after which the threads of the side before sleep: those of ONNX Runtime halved the speed of who came next.
SETTLE = 0.05
# The largest difference of an output, which is at most 1, and of a gradient beside the largest of its tensor.
TOLERANCE = 1e-4
# The same in bf16: a number has eight bits, and each side rounds in places of its own.
HALF_TOLERANCE = 0.03


def case_of(cell, size, mode, threads):
    t, b, i, h, layers, bi = size
    carried = dict(carried=True) if mode == "steps" else {}
    mode, _, dtype = mode.partition("-")
    kind = dict(dtype=dtype) if dtype else {}
    return dict(cell=cell, t=t, b=b, i=i, h=h, layers=layers, bi=bi, mode=mode, threads=threads, **carried, **kind)


def states(case):
    """The state that a case begins with, one tensor for h and c; None: zeros, and not given."""
    if not case.get("carried"):
        return None
    rows = case["layers"] * (2 if case["bi"] else 1)
    return torch.rand(rows, case["b"], case["h"], generator=torch.Generator().manual_seed(2)) - 0.5


def state_of(case):
    """As a module of PyTorch's takes it."""
    state = states(case)
    return state if state is None or case["cell"] != "LSTM" else (state, state)


def grouped(run, repeats):
    """Seconds of a call, `repeats` times; short calls are timed in groups."""
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


def parameters(module, layer, direction):
    """W_ih, W_hh, b_ih, b_hh of a layer in a direction."""
    suffix = f"l{layer}" + ("_reverse" if direction else "")
    return [getattr(module, f"{name}_{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]


class Torch:
    """PyTorch's side: the module's own default kernels, eager."""

    def __init__(self):
        self.version = torch.__version__
        self.cache = {}

    def module(self, case):
        """The network of a case and its input, the same for each mode and number of threads."""
        key = tuple(v for k, v in case.items() if k not in ("mode", "threads", "carried"))
        if key not in self.cache:
            self.cache.clear()
            torch.manual_seed(1)
            cls = getattr(torch.nn, case["cell"])
            module = cls(case["i"], case["h"], case["layers"], bidirectional=case["bi"])
            x = torch.randn(case["t"], case["b"], case["i"])
            self.cache[key] = (module.bfloat16(), x.bfloat16()) if "dtype" in case else (module, x)
        return self.cache[key]

    def call(self, case):
        torch.set_num_threads(case["threads"])
        module, x = self.module(case)
        state = state_of(case)
        module.train(case["mode"] == "train")

        def train():
            module(x)[0].sum().backward()
            module.zero_grad(set_to_none=True)

        def infer():
            with torch.inference_mode():
                module(x, state)

        return train if case["mode"] == "train" else infer

    def seconds(self, case, repeats):
        return grouped(self.call(case), repeats)


class OnnxRuntime:
    """ONNX Runtime's side: the graph has one LSTM, GRU or RNN node a layer, with PyTorch's weights."""

    # ONNX's order of gates in PyTorch's: i, o, f, c of i, f, g, o; z, r, h of r, z, n.
    GATES = {"LSTM": [0, 3, 1, 2], "GRU": [1, 0, 2], "RNN": [0]}

    def __init__(self, theirs):
        import onnx
        import onnxruntime

        self.onnx, self.runtime, self.theirs = onnx, onnxruntime, theirs
        self.version = onnxruntime.__version__
        # By threads: the case of a session, and the session.
        self.sessions = {}

    def model(self, case, module):
        onnx, cell, h = self.onnx, case["cell"], case["h"]
        helper, directions = onnx.helper, 2 if case["bi"] else 1
        nodes, constants = [], []

        def constant(name, array):
            constants.append(onnx.numpy_helper.from_array(numpy.ascontiguousarray(array), name))
            return name

        def gates(parameter):
            blocks = parameter.detach().numpy().reshape(-1, h, *parameter.shape[1:])
            return blocks[self.GATES[cell]].reshape(parameter.shape)

        options = {"hidden_size": h, "direction": "bidirectional" if case["bi"] else "forward"}
        if cell == "GRU":
            options["linear_before_reset"] = 1
        if cell == "RNN":
            options["activations"] = ["Tanh"] * directions
        states_of = ["h", "c"] if cell == "LSTM" else ["h"]
        constant("shape", numpy.array([0, 0, directions * h], numpy.int64))
        x = "x"
        for layer in range(case["layers"]):
            of = [[gates(p) for p in parameters(module, layer, direction)] for direction in range(directions)]
            names = [
                constant(f"W{layer}", numpy.stack([w[0] for w in of])),
                constant(f"R{layer}", numpy.stack([w[1] for w in of])),
                constant(f"B{layer}", numpy.stack([numpy.concatenate(w[2:]) for w in of])),
            ]
            if case.get("carried"):
                # Sequence lengths are not given; each layer has its rows of the states.
                names += ["", *(f"{name}{layer}" for name in states_of)]
            y = "y" if layer + 1 == case["layers"] else f"y{layer}"
            # T, directions, B, H to T, B, directions · H.
            nodes += [
                helper.make_node(cell, [x, *names], [f"raw{layer}"], **options),
                helper.make_node("Transpose", [f"raw{layer}"], [f"turned{layer}"], perm=[0, 2, 1, 3]),
                helper.make_node("Reshape", [f"turned{layer}", "shape"], [y]),
            ]
            x = y
        value = lambda name, width: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [case["t"], case["b"], width])
        carried = [f"{name}{layer}" for layer in range(case["layers"]) for name in states_of] if case.get("carried") else []
        begin = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [directions, case["b"], h]) for name in carried]
        graph = helper.make_graph(nodes, cell, [value("x", case["i"]), *begin], [value("y", directions * h)], constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        return model.SerializeToString()

    def seconds(self, case, repeats):
        if case["mode"] == "train" or "dtype" in case:
            return None
        module, x = self.theirs.module(case)
        feed, directions = {"x": x.numpy()}, 2 if case["bi"] else 1
        if (begin := states(case)) is not None:
            for layer, of in enumerate(begin.split(directions)):
                feed |= {f"{name}{layer}": of.numpy() for name in (["h", "c"] if case["cell"] == "LSTM" else ["h"])}
        key, session = self.sessions.get(case["threads"], (None, None))
        fresh = case != key
        if fresh:
            options = self.runtime.SessionOptions()
            options.intra_op_num_threads, options.inter_op_num_threads = case["threads"], 1
            session = self.runtime.InferenceSession(self.model(case, module), options, providers=["CPUExecutionProvider"])
            self.sessions[case["threads"]] = dict(case), session
        # Its inputs are bound once and its output has its memory, as who calls it many times does it.
        binding = session.io_binding()
        for name, array in feed.items():
            binding.bind_cpu_input(name, array)
        y = self.runtime.OrtValue.ortvalue_from_shape_and_type([case["t"], case["b"], directions * case["h"]], numpy.float32)
        binding.bind_ortvalue_output("y", y)
        if fresh:
            with torch.inference_mode():
                wanted = module(x, state_of(case))[0].numpy()
            session.run_with_iobinding(binding)
            agree(f"onnxruntime {case}", "y", y.numpy(), wanted, 1)
        return grouped(lambda: session.run_with_iobinding(binding), repeats)

    def missing(self, case):
        return "ONNX Runtime only infers" if case["mode"] == "train" else None


class Program:
    """A side that is a program of its own."""

    def __init__(self, command, **environment):
        self.command = command
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})

    def ask(self, request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join(map(str, self.command))} ended early")
        return json.loads(line)

    def seconds(self, case, repeats):
        return self.ask({**case, "repeats": repeats})["seconds"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class RustPeer:
    """candle's or burn's side: a process for each number of threads, which both take from the environment."""

    CRATES = {"candle": "candle-nn", "burn": "burn"}

    def __init__(self, program, name, theirs):
        # Pinned there to one version.
        self.version = re.search(rf'^{self.CRATES[name]} = .*?"=([^"]+)"', RUST.read_text(), re.M)[1]
        self.program, self.name, self.theirs = program, name, theirs
        self.processes, self.missed = {}, {}

    def process(self, threads):
        if threads not in self.processes:
            self.processes[threads] = Program([self.program, self.name], RAYON_NUM_THREADS=str(threads))
        return self.processes[threads]

    def check(self, cell):
        """Small networks of each form."""
        for form in ((1, False), (2, True)):
            for mode in ("infer", "train"):
                if why := check(self.name, self.process(1), self.theirs, case_of(cell, (5, 3, 4, 6, *form), mode, 1)):
                    self.missed[cell] = why
                    return

    def pids(self):
        return [program.process.pid for program in self.processes.values()]

    def seconds(self, case, repeats):
        return None if case["cell"] in self.missed or "dtype" in case else self.process(case["threads"]).ask({**case, "repeats": repeats})["seconds"]

    def missing(self, case):
        return self.missed.get(case["cell"])


def check(name, program, theirs, case):
    """A program computes what PyTorch does from the same weights, input and state: the output, and in training the gradients. Why it does not
    take part, or None."""
    module, x = theirs.module(case)
    of = [parameters(module, layer, direction) for layer in range(case["layers"]) for direction in range(2 if case["bi"] else 1)]
    y = module(x, state_of(case))[0]
    flat = lambda tensor: tensor.detach().flatten().tolist()
    request = {**case, "check": True, "x": flat(x), "weights": [[flat(p) for p in w] for w in of]}
    if case.get("carried"):
        request["state"] = flat(states(case))
    answer = program.ask(request)
    if "missing" in answer:
        return answer["missing"]
    tolerance = HALF_TOLERANCE if "dtype" in case else TOLERANCE
    agree(f"{name} {case}", "y", answer["y"], flat(y), 1, tolerance)
    wanted = []
    if case["mode"] == "train":
        y.sum().backward()
        wanted = [flat(p.grad) for w in of for p in w]
        module.zero_grad(set_to_none=True)
    got = [g for w in answer["gradients"] for g in w]
    if len(got) != len(wanted):
        raise SystemExit(f"{name} {case}: {len(got)} gradients, expected {len(wanted)}")
    for k, (a, b) in enumerate(zip(got, wanted)):
        agree(f"{name} {case}", f"gradient {k}", a, b, max(map(abs, b)), tolerance)


def check_ours(program, theirs, cells, modes, threads):
    """Sizes that have kernels of their own: few units, many with a part of a line of them, one sequence, a state handed on."""
    for cell in cells:
        for size in ((5, 3, 4, 6, 1, False), (5, 3, 4, 6, 2, True), (6, 33, 40, 100, 1, False), (3, 32, 64, 256, 1, False), (4, 1, 30, 77, 2, False)):
            for mode in modes:
                for n in threads:
                    check("gatefold", program, theirs, case_of(cell, size, mode, n))


def hold(processes, threads, turn):
    """Holds all threads of some processes on as many of this one's cores as a case has threads, others each turn. False where it cannot."""
    if not hasattr(os, "sched_setaffinity"):
        return False
    first = turn * threads % len(CORES)
    cores = {CORES[(first + k) % len(CORES)] for k in range(threads)}
    for process in processes:
        for thread in os.listdir(f"/proc/{process}/task"):
            try:
                os.sched_setaffinity(int(thread), cores)
            except ProcessLookupError:
                pass  # It has ended meanwhile.
    return True


def agree(who, what, got, wanted, scale, tolerance=TOLERANCE):
    got, wanted = numpy.asarray(got), numpy.asarray(wanted)
    if got.shape != wanted.shape:
        raise SystemExit(f"{who}: {what} has shape {got.shape}, PyTorch's {wanted.shape}")
    off = float(numpy.abs(got - wanted).max())
    if not off <= tolerance * scale:
        raise SystemExit(f"{who}: {what} is off PyTorch's by {off}, allowed are {tolerance * scale}")


def resident(name):
    """A line of /proc/self/status in bytes; None where there is no such file."""
    try:
        with open("/proc/self/status", encoding="utf-8") as file:
            for line in file:
                if line.startswith(name + ":"):
                    return int(line.split()[1]) * 1024
    except FileNotFoundError:
        pass
    return None


def memory_of_torch(case):
    """For a process that does nothing else; the same as peer.rs does."""
    before = resident("VmRSS")
    run = Torch().call(case)
    for _ in range(case["repeats"]):
        run()
    print(json.dumps({"before_bytes": before, "peak_bytes": resident("VmHWM")}))


def memory(peer, size, threads):
    """The resident set of a process that makes training steps of one size, in gatefold and in PyTorch."""
    case = case_of("LSTM", size, "train", threads)
    request = {**case, "what": "memory", "repeats": 3}
    ours = Program([peer])
    of_us = ours.ask(request)
    ours.close()
    done = subprocess.run([sys.executable, __file__, "--memory-of-torch", json.dumps(request)], check=True, capture_output=True, text=True)
    of_torch = json.loads(done.stdout.splitlines()[-1])
    if None in (*of_us.values(), *of_torch.values()):
        return None
    return {**case, "steps": request["repeats"], "gatefold": of_us, "torch": of_torch}


def titled(cell, mode, threads):
    return f"{cell:4} {mode:10} {threads} thread{'s'[:threads - 1]:1}"


def cpu():
    for line in open("/proc/cpuinfo", encoding="utf-8"):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def main():
    if sys.argv[1:2] == ["--memory-of-torch"]:
        return memory_of_torch(json.loads(sys.argv[2]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer")
    parser.add_argument("--rust-peers", help="the program of benches/peers/rust, for candle and burn")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--cells", default="LSTM,GRU,RNN")
    parser.add_argument("--modes", default="train,infer,steps,train-bf16,infer-bf16")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--sizes", default=",".join(map(str, range(len(SIZES)))), help="which of the sizes, counted from 0")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slow-rounds", type=int, default=1)
    parser.add_argument("--memory-size", type=int, default=7, help="of which size a training step's memory is measured; -1: of none")
    parser.add_argument("--commit", default="unknown")
    parser.add_argument("--out")
    args = parser.parse_args()
    started = time.perf_counter()
    cells, names = args.cells.split(","), [name for name in args.peers.split(",") if name]
    sizes_of = lambda mode: STEPS if mode == "steps" else [SIZES[int(k)] for k in args.sizes.split(",")]
    threads_of = list(map(int, args.threads.split(",")))
    if unknown := [name for name in names if name not in PEERS]:
        parser.error(f"--peers: {', '.join(unknown)}, expected some of {','.join(PEERS)}")
    ours, theirs, others = Program([args.peer]), Torch(), {}
    for name in names:
        if name in SLOW and not args.rust_peers:
            parser.error(f"--peers {name}: --rust-peers is missing")
        if name in SLOW:
            others[name] = RustPeer(args.rust_peers, name, theirs)
            for cell in cells:
                others[name].check(cell)
        else:
            others[name] = theirs if name == "torch" else OnnxRuntime(theirs)
    check_ours(ours, theirs, cells, args.modes.split(","), threads_of)
    # First of what is measured, while nothing else of this runs.
    used = memory(args.peer, SIZES[args.memory_size], max(threads_of)) if args.memory_size >= 0 and "torch" in names else None
    results, missing, instructions, held = [], {}, None, False
    for cell in cells:
        for mode in args.modes.split(","):
            ratios = {}
            for size in sizes_of(mode):
                cases = {threads: case_of(cell, size, mode, threads) for threads in threads_of}
                times, peaks = {threads: {name: [] for name in ["gatefold", *names]} for threads in threads_of}, {threads: [] for threads in threads_of}
                for k in range(args.rounds):
                    backwards = 1 if k % 2 == 0 else -1
                    for threads in threads_of[::backwards]:
                        # PyTorch and ONNX Runtime are in this process.
                        slow = [pid for name in others if name in SLOW for pid in others[name].pids()]
                        held = hold([os.getpid(), ours.process.pid, *slow], threads, k)
                        sides = {"gatefold": ours, **others}
                        for name in list(sides)[::backwards]:
                            if k < (args.rounds if name not in SLOW else args.slow_rounds if mode in ("train", "infer") else 0):
                                time.sleep(SETTLE)
                                times[threads][name] += sides[name].seconds(cases[threads], 1) or []
                                if name == "gatefold" and mode == "train":
                                    measured = ours.ask({"what": "peak", "threads": threads})
                                    instructions = measured["instructions"]
                                    peaks[threads].append(measured["gflops"])
                for threads, case in cases.items():
                    medians = {name: statistics.median(all_of) for name, all_of in times[threads].items() if all_of}
                    for name in names:
                        if name in medians:
                            ratios.setdefault((threads, name), []).append(medians[name] / medians["gatefold"])
                        elif "dtype" not in case and (name not in SLOW or args.slow_rounds and mode != "steps"):
                            missing[name, cell, mode] = others[name].missing(case)
                    timed = {f"{name}_seconds": all_of for name, all_of in times[threads].items() if all_of}
                    results.append({**case, **timed, **({"peak_gflops": peaks[threads]} if peaks[threads] else {})})
                    shown = "".join(f"   {name} {median * 1e3:9.3f} ms" for name, median in medians.items())
                    rates = ", ".join(f"{medians[name] / medians['gatefold']:.2f}" for name in names if name in medians)
                    label = f"({','.join(map(str, size[:5]))},{'yes' if size[5] else 'no'})"
                    print(f"{titled(cell, mode, threads)} {label:26}{shown}   ratios {rates}", flush=True)
            for (threads, name), of in sorted(ratios.items(), key=lambda item: item[0][0]):
                mean = math.exp(statistics.fmean(map(math.log, of)))
                print(f"{titled(cell, mode, threads)} {name}: geometric mean {mean:.2f}, lowest {min(of):.2f}", flush=True)
    if args.out:
        document = {
            "what": "seconds per call, alternating rounds in one run",
            "date": datetime.date.today().isoformat(),
            "commit": args.commit,
            "cpu": cpu(),
            "torch": torch.__version__,
            "versions": {name: other.version for name, other in others.items()},
            "rounds": args.rounds,
            "held": held,
            "slow_rounds": {name: args.slow_rounds for name in names if name in SLOW},
            "missing": [dict(peer=name, cell=cell, mode=mode, why=why) for (name, cell, mode), why in missing.items()],
            "peak_instructions": instructions,
            "memory": used,
            "seconds": round(time.perf_counter() - started),
            "cases": results,
        }
        temporary = f"{args.out}.tmp"
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, args.out)


if __name__ == "__main__":
    main()
