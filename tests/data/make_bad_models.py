#!/usr/bin/env python3
"""Makes the files of bad-models/: one per way in which a model or its golden vectors can be bad.

  not-onnx.bin               plain text
  truncated.onnx             the first two thirds of digits version 1
  unsupported-operator.onnx  an operator of a domain that nobody knows
  conv-stride-zero.onnx      a convolution with a stride of 0: valid protobuf, a division by zero for the careless
  external-data.onnx         weights in a file beside the model that does not exist
  external-data-escape.onnx  weights in a file outside of the model's folder
  huge-constant.onnx         a few bytes that ask for 4 TiB of memory while the graph is prepared
  golden-wrong-shape.npz     cases of 7x7 pixels for digits version 1
  golden-wrong-values.npz    right images, probabilities of the neighbouring class
  golden-nan.npz             right images, NaN in one expected probability

All models but the first two have the interface of the digit models: `image` f32 [1,1,8,8] to
`probabilities` f32 [1,10].

Needs the packages of fleet-server/demo/requirements.txt. Usage: make_bad_models.py [--check]
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).resolve().parent
DEMO = HERE.parent.parent / "fleet-server" / "demo"
FOLDER = HERE / "bad-models"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the files there instead of writing them")
    if not parser.parse_args().check:
        make_all(FOLDER)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        make_all(Path(scratch))
        differing = [p.name for p in Path(scratch).iterdir() if p.read_bytes() != (FOLDER / p.name).read_bytes()]
    print(f"differs: {differing}" if differing else "identical")
    return 1 if differing else 0


def make_all(folder):
    folder.mkdir(exist_ok=True)
    good = (DEMO / "digits-v1.onnx").read_bytes()
    (folder / "not-onnx.bin").write_bytes(b"This is a text file that somebody uploaded as a model.\n")
    (folder / "truncated.onnx").write_bytes(good[: len(good) * 2 // 3])
    write_model(folder / "unsupported-operator.onnx", *unsupported_operator())
    write_model(folder / "conv-stride-zero.onnx", *conv_stride_zero())
    write_model(folder / "external-data.onnx", *external_data("weights.bin"))
    write_model(folder / "external-data-escape.onnx", *external_data("../../../../../../etc/passwd"))
    write_model(folder / "huge-constant.onnx", *huge_constant())
    make_golden(folder)


def make_golden(folder):
    good = dict(np.load(DEMO / "digits-v1-golden.npz"))
    images, expected = good["inputs/image"], good["outputs/probabilities"]
    blemished = expected.copy()
    blemished[3, 0, 5] = np.nan
    write_golden(folder / "golden-wrong-shape.npz", images[..., :7, :7], expected)
    write_golden(folder / "golden-wrong-values.npz", images, np.roll(expected, 1, axis=-1))
    write_golden(folder / "golden-nan.npz", images, blemished)


def write_golden(path, images, probabilities):
    with path.open("wb") as file:
        np.savez_compressed(file, **{"inputs/image": images, "outputs/probabilities": probabilities})


# Each of these gives the nodes, the weights and the foreign domains of one graph.


def unsupported_operator():
    sharpen = helper.make_node("Sharpen", ["image"], ["sharp"], name="sharp", domain="com.example.vision", strength=2.0)
    nodes, weights = classifier("sharp")
    return [sharpen, *nodes], weights, ["com.example.vision"]


def conv_stride_zero():
    kernel = numpy_helper.from_array(np.ones((1, 1, 1, 1), dtype=np.float32), "kernel")
    conv = helper.make_node("Conv", ["image", "kernel"], ["maps"], name="maps", kernel_shape=[1, 1], strides=[0, 0])
    nodes, weights = classifier("maps")
    return [conv, *nodes], [kernel, *weights], []


def external_data(location):
    nodes, [dense] = classifier("image")
    dense.ClearField("raw_data")
    dense.data_location = TensorProto.EXTERNAL
    for key, value in [("location", location), ("offset", "0"), ("length", str(64 * 10 * 4))]:
        dense.external_data.add(key=key, value=value)
    return nodes, [dense], []


def huge_constant():
    shape = numpy_helper.from_array(np.array([1 << 20, 1 << 20], dtype=np.int64), "shape")
    nodes, weights = classifier("bright")
    one = numpy_helper.from_array(np.ones(1, dtype=np.float32))
    fill = helper.make_node("ConstantOfShape", ["shape"], ["huge"], name="huge", value=one)
    total = helper.make_node("ReduceSum", ["huge"], ["total"], name="total", keepdims=0)
    add = helper.make_node("Add", ["image", "total"], ["bright"], name="bright")
    return [fill, total, add, *nodes], [shape, *weights], []


def classifier(source):
    """The sound rest of each graph: a dense layer and a softmax."""
    weights = numpy_helper.from_array(np.full((64, 10), 0.01, dtype=np.float32), "dense")
    nodes = [
        helper.make_node("Flatten", [source], ["flat"], name="flat", axis=1),
        helper.make_node("MatMul", ["flat", "dense"], ["logits"], name="logits"),
        helper.make_node("Softmax", ["logits"], ["probabilities"], name="probabilities", axis=1),
    ]
    return nodes, [weights]


def write_model(path, nodes, weights, domains):
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 8, 8])
    probabilities = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, 10])
    graph = helper.make_graph(nodes, path.stem, [image], [probabilities], weights)
    opsets = [helper.make_opsetid("", 17)] + [helper.make_opsetid(domain, 1) for domain in domains]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="make_bad_models.py")
    path.write_bytes(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    sys.exit(main())
