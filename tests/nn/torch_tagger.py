"""Writes torch_tagger.safetensors, the state dict of a small model of PyTorch's and what it answers. Made with torch 2.15.0.

    python tests/nn/torch_tagger.py
"""
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

torch.manual_seed(1)
torch.set_num_threads(1)
model = nn.Module()
model.embedding = nn.Embedding(5, 3, padding_idx=0)
model.lstm = nn.LSTM(3, 4, num_layers=2, bidirectional=True, proj_size=2)
model.score = nn.Linear(4, 3)
words = [1, 4, 0, 2]
with torch.no_grad():
    scores = model.score(model.lstm(model.embedding(torch.tensor(words)))[0])
metadata = {"words": json.dumps(words), "scores": json.dumps(scores.flatten().tolist())}
save_file(model.state_dict(), Path(__file__).with_suffix(".safetensors"), metadata)
