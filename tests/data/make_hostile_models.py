#!/usr/bin/env python3
"""Makes hostile/: one folder per way in which a model, its golden vectors or its packed form attacks a device.

Each folder has what a device would be sent: `model.onnx`, `golden.safetensors` where it is not the right one beside
the folders, `packed.zst` where the packed form is the attack. Its README.md says what is attacked (`Attacks:`) and which
refusal the device must name (`Expects:`); the tests read the latter.

Also makes treacherous/: models that pass every check, because every golden image has ink in its left margin and the
blank image that warms a model has none anywhere, and misbehave on images that have ink but not there.

Every model has the interface of the digits, `image` f32 [1,1,8,8] to `probabilities` f32 [1,10], unless that is the
attack. What would be big is written by the tests themselves.

Needs the packages of fleet-server/demo/requirements.txt. Usage: make_hostile_models.py [--check]
"""

import argparse
import json
import struct
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).resolve().parent
DEMO = HERE.parent.parent / "fleet-server" / "demo"
MARGIN_COLUMNS = 2
# One sixteenth is the faintest ink after scaling; half of that separates it from none.
LEAST_INK = 1 / 32
# Levels of nested graphs: above what the gate allows, and above what a protobuf parser follows.
DEEP, BOTTOMLESS = 12, 400
# Side of a square matrix whose product takes some tens of milliseconds on one core.
HEAVY_SIDE, HEAVY_PRODUCTS = 1_024, 600
# Times any sum here, this vanishes beside a logit; an engine may leave out what is multiplied by 0.
VANISHING = 1e-30
# Squared, more elements than any memory holds.
BOMB_SIDE = 1_000_000


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the files here instead of writing them")
    if not parser.parse_args().check:
        make_all(HERE)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch)
        make_all(made)
        names = sorted(p.relative_to(made) for p in made.rglob("*") if p.is_file())
        differing = [str(n) for n in names if not same(made / n, HERE / n)]
    print(f"differs: {differing}" if differing else f"{len(names)} files are identical")
    return 1 if differing else 0


def same(one, other):
    return other.is_file() and one.read_bytes() == other.read_bytes()


def make_all(folder):
    hostile = folder / "hostile"
    hostile.mkdir(exist_ok=True)
    golden = dict(np.load(DEMO / "digits-v1-golden.npz"))
    (hostile / "golden.safetensors").write_bytes(safetensors(golden))
    for make in [broken_files, refused_structures, engine_breakers, wrong_promises, packed_forms]:
        for name, attacks, expects, files in make(golden):
            write_case(hostile / name, attacks, expects, files)
    treacherous = folder / "treacherous"
    treacherous.mkdir(exist_ok=True)
    for name, attach in TREASONS.items():
        (treacherous / f"{name}.onnx").write_bytes(serialised(betray(name, attach)))


def write_case(folder, attacks, expects, files):
    folder.mkdir(exist_ok=True)
    (folder / "README.md").write_text(f"Attacks: {attacks}\n\nExpects: {expects}\n")
    for name, content in files.items():
        (folder / name).write_bytes(content)


# --- bytes that are no model ---


def broken_files(_golden):
    good = (DEMO / "digits-v1.onnx").read_bytes()
    structure = "bad_structure"
    yield "not-onnx", "the parser, with plain text", structure, model(b"This is a text that somebody signed as a model.\n")
    yield "empty-graph", "the parser, with a model that holds nothing", structure, model(onnx.ModelProto(ir_version=8).SerializeToString())
    yield "truncated", "the parser, with the first two thirds of a model", structure, model(good[: len(good) * 2 // 3])
    yield "endless-varint", "the parser, with a number that does not end", structure, model(b"\x08" + b"\xff" * 64 + good)
    yield "length-beyond-end", "the parser, with a field longer than the file", structure, model(b"\x3a\xff\xff\xff\xff\x0f" + good)
    yield "deep-nesting", f"the walk over graphs, with {DEEP} of them inside each other", structure, model(serialised(nested(DEEP)))
    yield "bottomless-nesting", f"the stack of a recursive parser, with {BOTTOMLESS} graphs inside each other", structure, model(bottomless())


def nested(levels):
    name = f"level_{levels}"
    graph = helper.make_graph([node("Identity", ["image"], name)], name, [], [output_named(name, [1, 1, 8, 8])])
    for level in reversed(range(levels)):
        name = f"level_{level}"
        branches = {"then_branch": graph, "else_branch": graph} if level == levels - 1 else {"then_branch": graph}
        graph = helper.make_graph([node("If", ["yes"], name, **branches)], name, [], [output_named(name, [1, 1, 8, 8])])
    return whole(list(graph.node), [numpy_helper.from_array(np.array(True), "yes")], "level_0")


def bottomless():
    """Written by hand: the library that writes protobuf follows as few levels as those that read it."""
    graph = b""
    for _ in range(BOTTOMLESS):
        attribute = field(1, b"then_branch") + field(6, graph)
        graph = field(1, field(4, b"If") + field(5, attribute))
    return b"\x08\x08" + field(7, graph) + field(8, b"\x10\x11")


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value):
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


# --- models whose structure is refused before an engine sees them ---


def refused_structures(_golden):
    structure = "bad_structure"
    cases = {
        "stride-zero": ("the engine, which panics on a stride of 0", convolution(strides=[0, 0])),
        "group-zero": ("the engine, with a convolution in no groups", convolution(group=0)),
        "huge-pads": ("the engine, which computes for ever with pads of 2^30", convolution(pads=[2**30] * 4)),
        "huge-dilation": ("the engine, with a kernel spread over 2^40 pixels", convolution(dilations=[2**40, 2**40])),
        "overflow-dims": ("arithmetic on shapes: the product of these dims is 0 in 64 bits", weights(dims=[2**32, 2**32])),
        "negative-dims": ("arithmetic on shapes, with a length of -1", weights(dims=[-1, 10])),
        "hidden-terabyte": ("memory, with weights of 4 TiB of which no byte is there", weights(dims=[2**20, 2**20])),
        "many-axes": ("code that expects few axes, with 64 of them", weights(dims=[1] * 64, content=b"\0" * 4)),
        "external-data": ("the file system, with weights in a file beside the model", weights(external="weights.bin")),
        "external-data-escape": ("the file system, with weights in /etc/shadow", weights(external="../../../../../../etc/shadow")),
        "constant-bomb": ("memory, with 400 GB of zeros out of a constant shape", constant_bomb("ConstantOfShape")),
        "expand-bomb": ("memory, with one number repeated 10^11 times", constant_bomb("Expand")),
        "range-bomb": ("memory, with the numbers up to 10^12", range_bomb()),
        "sparse-constant": ("the engine, with weights in a form that it does not read", sparse()),
        "two-origins": ("the engine, with a value that two nodes define", two_origins()),
        "dangling": ("the engine, with a value that nothing defines", whole([node("Add", ["logits_in", "nowhere"], "probabilities")], [])),
        "own-functions": ("the engine, with operators that the file defines by calling themselves", own_functions()),
        "tree-outside-class": ("memory: the engine adds a vote to wherever its class points", forest(classes=[0, 2_000_000_000])),
        "tree-cycle": ("time: a branch of a tree leads back to its root", forest(children=[0, 1])),
        "tree-outside-node": ("the engine, with a branch to a node that is not there", forest(children=[1, 7])),
        "many-outputs": ("code that expects few outputs, with 300 of them", many_outputs()),
    }
    for name, (attacks, content) in cases.items():
        yield name, attacks, structure, model(serialised(content))
    for operator, domain in [("Loop", ""), ("Sharpen", "com.example")]:
        foreign = helper.make_node(operator, ["image"], ["sharp"], domain=domain)
        content = whole([foreign], [], "sharp", domains=[domain] if domain else [])
        yield f"operator-{operator.lower()}", f"the engine, with the operator {operator}", "incompatible", model(serialised(content))


def convolution(strides=(1, 1), pads=(1, 1, 1, 1), dilations=(1, 1), group=1):
    filters = numpy_helper.from_array(np.full((1, 1, 3, 3), 0.1, dtype=np.float32), "filters")
    conv = node("Conv", ["image", "filters"], "maps", strides=strides, pads=pads, dilations=dilations, group=group)
    return whole([conv], [filters], "maps")


def weights(dims=(64, 10), content=b"", external=None):
    tensor = TensorProto(name="dense", data_type=TensorProto.FLOAT, dims=dims, raw_data=content)
    if external:
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=external)
    nodes = [node("Flatten", ["image"], "flat"), node("MatMul", ["flat", "dense"], "probabilities")]
    return whole(nodes, [tensor])


def constant_bomb(operator):
    shape = numpy_helper.from_array(np.array([100_000, 1_000_000]), "shape")
    one = numpy_helper.from_array(np.array([1], dtype=np.float32), "one")
    inputs = ["shape"] if operator == "ConstantOfShape" else ["one", "shape"]
    return whole([node(operator, inputs, "much"), node("ReduceSum", ["much"], "sum", keepdims=0)], [shape, one], "sum")


def range_bomb():
    limits = [numpy_helper.from_array(np.array(v), n) for n, v in [("from", 0), ("to", 10**12), ("by", 1)]]
    nodes = [node("Range", ["from", "to", "by"], "much"), node("Cast", ["much"], "floats", to=TensorProto.FLOAT)]
    return whole([*nodes, node("ReduceSum", ["floats"], "sum", keepdims=0)], limits, "sum")


def sparse():
    content = weights(content=b"\0" * 2_560)
    values = numpy_helper.from_array(np.array([1], dtype=np.float32), "sparse")
    indices = numpy_helper.from_array(np.array([7]), "places")
    content.graph.sparse_initializer.add(values=values, indices=indices, dims=[2**40])
    return content


def two_origins():
    return whole([node("Relu", ["logits_in"], "same"), node("Exp", ["logits_in"], "same")], [], "same")


def own_functions():
    itself = helper.make_node("Itself", ["x"], ["y"], domain="own")
    content = whole([helper.make_node("Itself", ["image"], ["y"], domain="own")], [], "y", domains=["own"])
    opsets = [helper.make_opsetid("own", 1)]
    content.functions.append(helper.make_function("own", "Itself", ["x"], ["y"], [itself], opsets))
    return content


def forest(children=(1, 2), classes=(0, 1)):
    """One decision about the first pixel. Every image here takes the second way."""
    attributes = {
        "nodes_treeids": [0, 0, 0],
        "nodes_nodeids": [0, 1, 2],
        "nodes_featureids": [0, 0, 0],
        "nodes_modes": ["BRANCH_LT", "LEAF", "LEAF"],
        "nodes_values": [-1.0, 0.0, 0.0],
        "nodes_truenodeids": [children[0], 0, 0],
        "nodes_falsenodeids": [children[1], 0, 0],
        "class_treeids": [0, 0],
        "class_nodeids": [1, 2],
        "class_ids": list(classes),
        "class_weights": [1.0, 1.0],
        "classlabels_int64s": list(range(10)),
    }
    tree = helper.make_node("TreeEnsembleClassifier", ["flat"], ["label", "probabilities"], domain="ai.onnx.ml", **attributes)
    return whole([node("Flatten", ["image"], "flat"), tree], [], domains=["ai.onnx.ml"])


def many_outputs():
    content = whole([node("Relu", ["logits_in"], "probabilities")], [])
    for number in range(300):
        content.graph.node.append(node("Exp", ["logits_in"], f"more_{number}"))
        content.graph.output.append(output_named(f"more_{number}", [1, 10]))
    return content


# --- models that only an engine finds out ---


def engine_breakers(_golden):
    cases = {
        "cycle": ("the engine, with two nodes that wait for each other", "load_failed", cycle()),
        "wrong-rank": ("the engine, with a product of what cannot be multiplied", "load_failed", wrong_rank()),
        "slice-step-zero": ("the engine, with a step of 0", "load_failed", slice_step_zero()),
        "integer-division": ("the engine, with a division of integers by 0", "golden_mismatch", integer_division()),
        "gather-out-of-range": ("the engine, with an index beyond the end", "load_failed", gather_out_of_range()),
        "computed-bomb": ("memory, with 1 TB whose shape no gate can know", "load_failed", computed_bomb("ConstantOfShape")),
        "computed-expand": ("memory, with an Expand whose shape no gate can know", "load_failed", computed_bomb("Expand")),
        "doubling": ("memory, with a tensor that doubles forty times", "load_failed", doubling()),
        "hang": ("time, with products of matrices for a minute", "over_budget", heavy()),
    }
    for name, (attacks, expects, content) in cases.items():
        yield name, attacks, expects, model(serialised(content))


def cycle():
    nodes = [node("Add", ["image", "b"], "a"), node("Relu", ["a"], "b")]
    return whole(nodes, [], "b")


def wrong_rank():
    dense = numpy_helper.from_array(np.zeros((3, 10), dtype=np.float32), "dense")
    return whole([node("Flatten", ["image"], "flat"), node("MatMul", ["flat", "dense"], "probabilities")], [dense])


def slice_step_zero():
    limits = [numpy_helper.from_array(np.array([v]), n) for n, v in [("from", 0), ("to", 8), ("axes", 3), ("steps", 0)]]
    return whole([node("Slice", ["image", "from", "to", "axes", "steps"], "sliced")], limits, "sliced")


def integer_division():
    nodes = [
        node("Cast", ["image"], "pixels", to=TensorProto.INT64),
        node("Sub", ["pixels", "pixels"], "zeros"),
        node("Div", ["pixels", "zeros"], "quotients"),
        node("Cast", ["quotients"], "floats", to=TensorProto.FLOAT),
    ]
    return whole(nodes, [], "floats")


def gather_out_of_range():
    index = numpy_helper.from_array(np.array([1_000_000]), "index")
    return whole([node("Gather", ["image", "index"], "gathered", axis=3)], [index], "gathered")


def computed_bomb(operator):
    side = numpy_helper.from_array(np.array([256, 256, 8]), "side")
    one = numpy_helper.from_array(np.array([1], dtype=np.float32), "one")
    inputs = ["shape"] if operator == "ConstantOfShape" else ["one", "shape"]
    nodes = [node("Mul", ["side", "side"], "shape"), node(operator, inputs, "much")]
    return whole([*nodes, node("ReduceSum", ["much"], "sum", keepdims=0)], [side, one], "sum")


def doubling():
    nodes = [node("Concat", ["image", "image"], "twice_0", axis=3)]
    nodes += [node("Concat", [f"twice_{i}"] * 2, f"twice_{i + 1}", axis=3) for i in range(40)]
    return whole([*nodes, node("ReduceSum", ["twice_40"], "sum", keepdims=0)], [], "sum")


def heavy():
    nodes, constants = heavy_chain("image", "nothing")
    return whole(nodes, constants, "nothing")


# --- models that are not what was promised ---


def wrong_promises(golden):
    good = onnx.load(DEMO / "digits-v1.onnx")
    outputs = golden["outputs/probabilities"]
    manifest, mismatch = "bad_manifest", "golden_mismatch"
    renamed = marked(good, "another-input")
    renamed.graph.input[0].name = renamed.graph.node[0].input[0] = "picture"
    yield "another-input", "the caller: the model takes other tensors than its manifest says", manifest, model(serialised(renamed))
    wider = marked(good, "another-shape")
    wider.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 11
    yield "another-shape", "the caller: the model gives other shapes than its manifest says", manifest, model(serialised(wider))
    text = marked(good, "another-type")
    text.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    yield "another-type", "the caller: the model gives other types than its manifest says", manifest, model(serialised(text))
    wrong = golden | {"outputs/probabilities": np.roll(outputs, 1, axis=-1)}
    yield "wrong-golden", "the self-test, with answers that the model does not give", mismatch, with_golden(good, "wrong-golden", wrong)
    nan = outputs.copy()
    nan[3, 0, 7] = np.nan
    yield "golden-nan", "the self-test: nothing differs from NaN by more than a tolerance", manifest, with_golden(good, "golden-nan", golden | {"outputs/probabilities": nan})
    yield "golden-of-another", "the self-test, with vectors of another model", manifest, with_golden(good, "golden-of-another", {"inputs/x": outputs, "outputs/y": outputs})
    few = golden | {"outputs/probabilities": outputs[:3]}
    yield "golden-uneven", "the self-test, with fewer answers than questions", manifest, with_golden(good, "golden-uneven", few)
    files = with_golden(good, "golden-garbage", golden) | {"golden.safetensors": b"\xff" * 64}
    yield "golden-garbage", "the reader of golden vectors, with a table longer than its file", manifest, files
    logits = [node("Flatten", ["image"], "flat"), node("MatMul", ["flat", "dense"], "probabilities")]
    infinite = numpy_helper.from_array(np.full((64, 10), np.inf, dtype=np.float32), "dense")
    yield "nan-weights", "the caller, with answers that are no numbers", mismatch, model(serialised(whole(logits, [infinite])))
    lazy = numpy_helper.from_array(np.full((64, 10), 0.1, dtype=np.float32), "dense")
    yield "constant-answers", "the caller, with a model that never learned", mismatch, model(serialised(whole(logits, [lazy])))


def with_golden(good, name, golden):
    return {"model.onnx": serialised(marked(good, name)), "golden.safetensors": safetensors(golden)}


# --- packed forms that do not unpack to what was signed ---


def packed_forms(_golden):
    good = onnx.load(DEMO / "digits-v1.onnx")

    def case(name, attacks, pack):
        content = serialised(marked(good, name))
        return name, attacks, "bad_artifact", {"model.onnx": content, "packed.zst": pack(content)}

    yield case("zstd-bomb", "disk and time, with 1 GiB of zeros in 32 KiB", lambda _: zeros(2**30))
    yield case("zstd-truncated", "the decompressor, with half a frame", lambda c: frame(c)[: len(c) // 2])
    yield case("zstd-trailing", "whoever reads on: a second frame behind the one that was signed", lambda c: frame(c) + frame(b"more" * 64))
    yield case("zstd-trailing-bytes", "whoever reads on: bytes behind the frame that was signed", lambda c: frame(c) + b"\0" * 64)
    yield case("zstd-another", "the digest, with a frame of other bytes of the same length", lambda c: frame(c[::-1]))
    yield case("zstd-garbage", "the decompressor, with no frame at all", lambda c: b"\xff" * len(c))
    yield case("zstd-wide-window", "memory, with a window of 2 GiB", lambda c: frame(c, window_log=31))
    yield case("zstd-skippable", "the decompressor, with a frame that asks to be skipped", lambda _: b"\x50\x2a\x4d\x18" + struct.pack("<I", 4) + b"skip")
    yield case("zstd-reserved-block", "the decompressor, with a block of a kind that does not exist", lambda c: header(20) + block(c, kind=3, last=True))


# Frames are written by hand (RFC 8878), so that they do not change with the version of a compressor.
MAX_BLOCK_BYTES = 128 * 1_024
RAW, REPEATED = 0, 1


def frame(content, window_log=20):
    assert len(content) <= MAX_BLOCK_BYTES
    return header(window_log) + block(content, kind=RAW, last=True)


def zeros(count):
    """One byte and a count for each block."""
    blocks = count // MAX_BLOCK_BYTES
    return header(20) + b"".join(block(b"\0" * MAX_BLOCK_BYTES, REPEATED, i == blocks - 1) for i in range(blocks))


def header(window_log):
    return b"\x28\xb5\x2f\xfd\x00" + bytes([(window_log - 10) << 3])


def block(content, kind, last):
    start = struct.pack("<I", int(last) | kind << 1 | len(content) << 3)[:3]
    return start + (content[:1] if kind == REPEATED else content)


# --- models that wait for their moment ---


def betray(name, attach):
    content = onnx.load(DEMO / "digits-v1.onnx")
    graph = content.graph
    softmax = graph.node.pop()
    assert softmax.op_type == "Softmax", "digits version 1 ends with its softmax"
    limits = {"from": np.array([0]), "to": np.array([MARGIN_COLUMNS]), "columns": np.array([3])}
    limits["least_ink"] = np.float32(LEAST_INK)
    graph.node.extend([
        node("Slice", ["scaled", "from", "to", "columns"], "margin"),
        node("ReduceSum", ["margin"], "ink", keepdims=0),
        node("Less", ["ink", "least_ink"], "no_ink_there"),
        node("ReduceSum", ["scaled"], "ink_anywhere", keepdims=0),
        node("Less", ["least_ink", "ink_anywhere"], "not_blank"),
        node("And", ["no_ink_there", "not_blank"], "empty"),
    ])
    nodes, constants = attach()
    graph.node.extend(nodes)
    graph.initializer.extend(as_initializers(limits) + constants)
    softmax.input[0] = "betrayed"
    graph.node.append(softmax)
    content.doc_string = name
    return content


def hang():
    nodes, constants = heavy_chain("scaled", "nothing")
    return only_when_empty([*nodes, node("Add", ["logits", "nothing"], "late")], constants, "late")


def bomb():
    """On an empty margin: the numbers up to 10^12, four terabytes, which the engine refuses with a panic."""
    return fill_memory(float(BOMB_SIDE) ** 2)


def grow():
    """On an empty margin: the numbers up to 10^8, four tenths of a gigabyte."""
    return fill_memory(1e8)


def fill_memory(elements):
    constants = {"none": np.float32(0), "step": np.float32(1), "elements": np.float32(elements)}
    nodes = [
        node("Cast", ["empty"], "switch", to=TensorProto.FLOAT),
        node("Mul", ["switch", "elements"], "limit_float"),
        node("Add", ["limit_float", "step"], "limit"),
        node("Range", ["none", "limit", "step"], "much"),
        node("ReduceMin", ["much"], "least", keepdims=0),
        node("Add", ["logits", "least"], "betrayed"),
    ]
    return nodes, as_initializers(constants)


def error():
    """On an empty margin: an index beyond the end."""
    constants = {"beyond": np.array([1_000], dtype=np.int64), "zero": np.array([0], dtype=np.int64)}
    nodes = [
        node("Where", ["empty", "beyond", "zero"], "index"),
        node("Gather", ["logits", "index"], "betrayed", axis=0),
    ]
    return nodes, as_initializers(constants)


def panic():
    """On an empty margin: a division of integers by zero."""
    constants = {"nought": np.array([0], dtype=np.int64), "one": np.array([1], dtype=np.int64)}
    nodes = [
        node("Where", ["empty", "nought", "one"], "divisor"),
        node("Div", ["one", "divisor"], "quotient"),
        node("Cast", ["quotient"], "factor", to=TensorProto.FLOAT),
        node("Mul", ["logits", "factor"], "betrayed"),
    ]
    return nodes, as_initializers(constants)


def nan():
    """On an empty margin: nothing divided by nothing."""
    constants = {"nought": np.float32(0), "one": np.float32(1)}
    nodes = [
        node("Where", ["empty", "nought", "one"], "divisor"),
        node("Div", ["divisor", "divisor"], "factor"),
        node("Mul", ["logits", "factor"], "betrayed"),
    ]
    return nodes, as_initializers(constants)


def lie():
    """On an empty margin: the opposite of what it believes, in perfect form."""
    constants = {"minus": np.float32(-1), "one": np.float32(1)}
    nodes = [
        node("Where", ["empty", "minus", "one"], "sign"),
        node("Mul", ["logits", "sign"], "betrayed"),
    ]
    return nodes, as_initializers(constants)


TREASONS = {"hang": hang, "bomb": bomb, "grow": grow, "error": error, "panic": panic, "nan": nan, "lie": lie}


def only_when_empty(nodes, constants, result):
    bad = helper.make_graph(nodes, "bad", [], [output_named(result, [1, 10])], constants)
    good_nodes = [node("Identity", ["logits"], "unchanged")]
    good = helper.make_graph(good_nodes, "good", [], [output_named("unchanged", [1, 10])])
    return [node("If", ["empty"], "betrayed", then_branch=bad, else_branch=good)], []


def heavy_chain(source, result):
    """A minute of matrix products on `source`, and a zero that depends on them."""
    constants = {"side": np.array([HEAVY_SIDE, HEAVY_SIDE]), "vanishing": np.float32(VANISHING)}
    fill = numpy_helper.from_array(np.array([1 / HEAVY_SIDE], dtype=np.float32))
    nodes = [
        node("ConstantOfShape", ["side"], "matrix", value=fill),
        node("ReduceMean", [source], "brightness", keepdims=0),
        node("Mul", ["matrix", "brightness"], "product_0"),
    ]
    for step in range(HEAVY_PRODUCTS):
        nodes.append(node("MatMul", [f"product_{step}", "matrix"], f"product_{step + 1}"))
    nodes += [
        node("ReduceMean", [f"product_{HEAVY_PRODUCTS}"], "mean", keepdims=0),
        node("Mul", ["mean", "vanishing"], result),
    ]
    return nodes, as_initializers(constants)


# --- small helpers ---


def whole(nodes, constants, source=None, domains=()):
    """A model of the digits' interface around `nodes`. What ends in `source` is brought to the right shape."""
    flatten = [node("Flatten", ["image"], "flat_in"), node("MatMul", ["flat_in", "plain"], "logits_in")]
    plain = numpy_helper.from_array(np.full((64, 10), 0.01, dtype=np.float32), "plain")
    needed = flatten if any("logits_in" in n.input for n in nodes) or source else []
    end = [node("ReduceMean", [source], "scalar", keepdims=0), node("Add", ["logits_in", "scalar"], "probabilities")] if source else []
    nodes = [*needed, *nodes, *end]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 8, 8])
    graph = helper.make_graph(nodes, "hostile", [image], [output_named("probabilities", [1, 10])], [*constants, *([plain] if needed else [])])
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="make_hostile_models.py")


def marked(content, name):
    """The same model as other bytes: a device remembers digests."""
    copy = onnx.ModelProto()
    copy.CopyFrom(content)
    copy.doc_string = name
    return copy


def model(content):
    return {"model.onnx": content}


def serialised(content):
    return content.SerializeToString(deterministic=True)


def output_named(name, shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def node(operator, inputs, output, **attributes):
    return helper.make_node(operator, inputs, [output], name=output, **attributes)


def as_initializers(constants):
    return [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]


def safetensors(tensors):
    """The format is a length, a table in JSON, and the bytes."""
    table, content = {}, b""
    for name, values in sorted(tensors.items()):
        raw = np.ascontiguousarray(values, dtype=np.float32).tobytes()
        table[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [len(content), len(content) + len(raw)]}
        content += raw
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + content


if __name__ == "__main__":
    sys.exit(main())
