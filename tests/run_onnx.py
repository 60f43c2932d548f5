"""Runs an ONNX model in ONNX Runtime, and has it checked where there is `onnx`: inputs as JSON in, outputs as JSON out."""

import json
import sys

import numpy
import onnxruntime

try:
    import onnx
except ImportError:
    pass
else:
    onnx.checker.check_model(sys.argv[1], full_check=True)  # infers shapes too, and compares them with those that are given

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
kinds = {"tensor(float)": numpy.float32, "tensor(int64)": numpy.int64, "tensor(int32)": numpy.int32}
given = json.loads(sys.argv[2])
inputs = {
    i.name: numpy.array(given[i.name]["values"], dtype=kinds[i.type]).reshape(given[i.name]["shape"])
    for i in session.get_inputs()
}
names = [output.name for output in session.get_outputs()]
outputs = zip(names, session.run(names, inputs))
for output in session.get_outputs():
    assert output.shape, f"{output.name} is given without a shape"
print(json.dumps({name: {"shape": y.shape, "values": y.ravel().tolist()} for name, y in outputs}))
