"""Loads models that gatefold saved into PyTorch, and compares what both make of the same inputs.

    benches/peers/outputs.py FOLDER

FOLDER is what `peer-outputs` has written. Fails where a state dict does not load, or an output is further from PyTorch's than
TOLERANCE times the greater of 1 and PyTorch's number; and where a changed weight would not be noticed.
"""

import pathlib
import sys

import torch
from safetensors import safe_open
from safetensors.torch import load_file

# Rounding, times the steps, layers and sums of a network of this size.
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-14}


class Net(torch.nn.Module):
    def __init__(self, about, width):
        super().__init__()
        cell, _, nonlinearity = about["cell"].partition(" ")
        options = {"nonlinearity": nonlinearity} if nonlinearity else {}
        if int(about["proj_size"]):
            options["proj_size"] = int(about["proj_size"])
        self.embedding = torch.nn.Embedding(50, 24, padding_idx=0)
        layers, bidirectional, bias = int(about["num_layers"]), about["bidirectional"] == "1", about["bias"] == "1"
        self.rnn = getattr(torch.nn, cell)(24, 32, layers, bias=bias, batch_first=True, bidirectional=bidirectional, **options)
        self.out = torch.nn.Linear(width, 5)

    def forward(self, words, lengths):
        packed = torch.nn.utils.rnn.pack_padded_sequence(self.embedding(words), lengths, batch_first=True, enforce_sorted=False)
        y, last = self.rnn(packed)
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True)
        last = dict(zip("hc", last)) if isinstance(last, tuple) else {"h": last}
        return {"scores": self.out(y), **last}


def distance(ours, theirs):
    """The greatest difference over the greater of 1 and PyTorch's number, of all outputs; NaN is as far as can be."""
    if ours.keys() != theirs.keys():
        raise SystemExit(f"outputs {sorted(ours)} and {sorted(theirs)}")
    most = 0.0
    for name, value in theirs.items():
        if ours[name].shape != value.shape or ours[name].dtype != value.dtype:
            raise SystemExit(f"{name}: {ours[name].shape} {ours[name].dtype}, PyTorch has {value.shape} {value.dtype}")
        apart = ((ours[name] - value).abs() / value.abs().clamp(min=1)).max().item()
        most = max(most, apart) if apart == apart else float("inf")
    return most


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    files = sorted(pathlib.Path(sys.argv[1]).glob("*.calls.safetensors"))
    if not files:
        sys.exit(f"{sys.argv[1]}: no *.calls.safetensors")
    wrong, furthest = [], {}
    for file in files:
        with safe_open(file, "pt") as opened:
            about = opened.metadata()
        ours = load_file(file)
        words, lengths = ours.pop("words"), ours.pop("lengths")
        state = load_file(file.with_name(file.name.replace("calls", "model")))
        dtype = getattr(torch, about["dtype"])
        net = Net(about, state["out.weight"].shape[1]).to(dtype).eval()
        net.load_state_dict(state, strict=True)
        with torch.no_grad():
            apart = distance(ours, net(words, lengths))
            net.rnn.weight_hh_l0.view(-1)[0] += 0.1
            noticed = distance(ours, net(words, lengths)) > TOLERANCE[dtype]
        furthest[dtype] = max(furthest.get(dtype, 0.0), apart)
        settings = ", ".join(f"{key} {value}" for key, value in sorted(about.items()))
        if apart > TOLERANCE[dtype]:
            wrong.append(f"{settings}: {apart:.2g} apart")
        if not noticed:
            wrong.append(f"{settings}: a changed weight goes unnoticed")
    for dtype, apart in furthest.items():
        print(f"{dtype}: at most {apart:.2g} apart, {TOLERANCE[dtype]:.2g} allowed")
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"{len(files)} models loaded into PyTorch {torch.__version__}, and their outputs agree")


if __name__ == "__main__":
    main()
