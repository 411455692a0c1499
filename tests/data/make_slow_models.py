#!/usr/bin/env python3
"""Makes two models that answer exactly as digits version 2 and are too slow: only latency can give them away.

`digits-slow.onnx` is slow on every image, so already the self-test can notice it. `digits-slow-sometimes.onnx`
is slow only on images without ink in the two left columns, and no golden image is one: about one real image
in seven takes long, and only a device at work can notice.

The time goes into a chain of matrix products whose result is added to the logits, made so small that no
f32 changes. The matrices are built inside the graph, so both files stay small.

Needs the packages of fleet-server/demo/requirements.txt. Usage: make_slow_models.py [--check]
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).resolve().parent
DEMO = HERE.parent.parent / "fleet-server" / "demo"
# Side of the square matrices: 0.27 GFLOP each product, 1 MiB each matrix.
SIDE = 512
# Products one after the other: 2.7 GFLOP, some 50 to 100 ms on one core; the plain model takes 0.1 ms.
PRODUCTS = 10
# Times a mean pixel of at most 16, this vanishes beside any logit.
VANISHING = 1e-30
MARGIN_COLUMNS = 2
# One sixteenth is the faintest ink after scaling; half of that separates it from none.
LEAST_INK = 1 / 32


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the files here instead of writing them")
    if not parser.parse_args().check:
        make_all(HERE)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        make_all(Path(scratch))
        differing = [p.name for p in Path(scratch).iterdir() if p.read_bytes() != (HERE / p.name).read_bytes()]
    print(f"differs: {differing}" if differing else "identical")
    return 1 if differing else 0


def make_all(folder):
    golden = (DEMO / "digits-v2-golden.npz").read_bytes()
    for name, attach in [("digits-slow", always), ("digits-slow-sometimes", on_empty_margins)]:
        model = onnx.load(DEMO / "digits-v2.onnx")
        attach(model.graph)
        model.doc_string = name
        onnx.checker.check_model(model, full_check=True)
        path = folder / f"{name}.onnx"
        path.write_bytes(model.SerializeToString(deterministic=True))
        (folder / f"{name}-golden.npz").write_bytes(golden)
        prove_answers(path, folder / f"{name}-golden.npz")


def always(graph):
    """The chain runs for each image."""
    nodes, constants = chain("logits", "slow_logits")
    insert_before_softmax(graph, nodes, constants)


def on_empty_margins(graph):
    """The chain runs in the branch that empty margins take."""
    nodes, constants = chain("logits", "chain_logits")
    slow = helper.make_graph(nodes, "slow", [], [logits_named("chain_logits")], as_initializers(constants))
    unchanged = node("Identity", ["logits"], "quick_logits")
    quick = helper.make_graph([unchanged], "quick", [], [logits_named("quick_logits")])
    limits = {"from": np.array([0]), "to": np.array([MARGIN_COLUMNS]), "columns": np.array([3])}
    limits["least_ink"] = np.float32(LEAST_INK)
    test = [
        node("Slice", ["scaled", "from", "to", "columns"], "margin"),
        node("ReduceSum", ["margin"], "ink", keepdims=0),
        node("Less", ["ink", "least_ink"], "empty"),
        node("If", ["empty"], "slow_logits", then_branch=slow, else_branch=quick),
    ]
    insert_before_softmax(graph, test, limits)


def chain(source, result):
    """Nodes that add a vanishing multiple of a long computation on the image to `source`."""
    constants = {
        "shape": np.array([SIDE, SIDE]),
        "vanishing": np.array([[VANISHING]], dtype=np.float32),
    }
    fill = numpy_helper.from_array(np.array([1 / SIDE], dtype=np.float32))
    nodes = [
        node("ConstantOfShape", ["shape"], "matrix", value=fill),
        node("ReduceMean", ["scaled"], "brightness", keepdims=0),
        node("Mul", ["matrix", "brightness"], "product_0"),
    ]
    for step in range(PRODUCTS):
        nodes.append(node("MatMul", [f"product_{step}", "matrix"], f"product_{step + 1}"))
    nodes += [
        node("ReduceMean", [f"product_{PRODUCTS}"], "mean", axes=[0, 1], keepdims=1),
        node("Mul", ["mean", "vanishing"], "nothing"),
        node("Add", [source, "nothing"], result),
    ]
    return nodes, constants


def logits_named(name):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 10])


def node(operator, inputs, output, **attributes):
    return helper.make_node(operator, inputs, [output], name=output, **attributes)


def insert_before_softmax(graph, nodes, constants):
    softmax = graph.node.pop()
    assert softmax.op_type == "Softmax", "digits version 2 ends with its softmax"
    softmax.input[0] = "slow_logits"
    graph.node.extend(nodes)
    graph.node.append(softmax)
    graph.initializer.extend(as_initializers(constants))


def as_initializers(constants):
    return [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]


def prove_answers(model_path, golden_path):
    golden = np.load(golden_path)
    session = onnxruntime.InferenceSession(str(model_path), providers=["CPUExecutionProvider"])
    for image, expected in zip(golden["inputs/image"], golden["outputs/probabilities"], strict=True):
        answer = session.run(None, {"image": image})[0]
        np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-5)


if __name__ == "__main__":
    sys.exit(main())
