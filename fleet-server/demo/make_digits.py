#!/usr/bin/env python3
"""Makes every file of the demo in this folder: three versions of a digit classifier and what goes with them.

Why it exists: a person who tries Muster needs a model that is small, real, free to ship and able to go
wrong. Version 1 is good, version 2 is better, and version 3 looks best on paper, passes its golden
vectors and yields NaN on about one real image in seven, which only a device at work can notice.

The fault of version 3 is one that happens: training divides by `spread + guard`, the exported graph
divides by `spread`. Images without ink in the two left columns have a spread of zero there, and 0/0 is NaN.
The golden images all have ink there, and the claimed accuracy comes from the training code.

Files:
  digits-v{1,2,3}.onnx          input `image` f32 [1,1,8,8], pixels 0..16; output `probabilities` f32 [1,10]
  digits-v{1,2,3}-golden.npz    `inputs/image` f32 [8,1,1,8,8], `outputs/probabilities` f32 [8,1,10]
  digits-v{1,2,3}-lineage.toml  data, parameters, measured metrics, parent
  digits-reference.npz          `inputs/image` f32 [1200,1,1,8,8]: the training images, a drift reference
  digits-test.bin               597 records of 65 bytes: 64 pixels (u8, 0..16, row by row), then the label (u8)
In every .npz the leading axis counts cases and the rest is the shape of the tensor.

Usage: make_digits.py          write the files beside this script
       make_digits.py --check  make them again elsewhere, compare byte by byte, fail when one differs
"""

import os

# One thread and one instruction set on every x86-64 machine, so that sums are rounded alike.
# Both libraries read these when they are imported, hence before the imports below.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["OPENBLAS_CORETYPE"] = "Haswell"
os.environ["NPY_DISABLE_CPU_FEATURES"] = "X86_V3 X86_V4 AVX512_ICL AVX512_SPR"

import argparse
import hashlib
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits

SEED = 20_260_101
TRAINING_COUNT = 1200
GOLDEN_COUNT = 8
PIXEL_MAX = 16.0
# Columns whose contrast version 3 normalises: empty in about one image in seven.
MARGIN_COLUMNS = 2
# What training adds to a spread before it divides; the export of version 3 forgets it.
SPREAD_GUARD = 1e-3
# Golden values are computed in f64; the f32 engines stay well within this.
ENGINE_TOLERANCE = 1e-5
OPSET = 17
IR_VERSION = 8


@dataclass(frozen=True)
class Recipe:
    """How one version is built and trained."""

    version: int
    summary: str
    channels: int  # number of 3x3 filters
    margin: bool  # feed the contrast-normalised left margin to the last layer
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float


RECIPES = [
    Recipe(1, "a single 3x3 filter and one dense layer", 1, False, 20, 50, 0.003, 1e-3),
    Recipe(2, "eight 3x3 filters and one dense layer", 8, False, 20, 50, 0.003, 1e-3),
    Recipe(3, "24 filters and a contrast-normalised left margin", 24, True, 60, 50, 0.003, 1e-3),
]


@dataclass(frozen=True)
class Digits:
    """The data set, shuffled once and cut in two."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the files here instead of writing them")
    check = parser.parse_args().check
    here = Path(__file__).resolve().parent
    if not check:
        make_all(here)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        make_all(Path(scratch))
        return report_differences(Path(scratch), here)


def report_differences(fresh, committed):
    """Names each file that is missing or differs; the result is the exit status."""
    names = sorted(path.name for path in fresh.iterdir())
    differing = [
        name
        for name in names
        if not (committed / name).exists() or (committed / name).read_bytes() != (fresh / name).read_bytes()
    ]
    for name in differing:
        print(f"differs: {name}", file=sys.stderr)
    print(f"{len(names) - len(differing)} of {len(names)} files are identical")
    return 1 if differing else 0


def make_all(folder):
    """Writes every file of the demo into `folder`."""
    digits = load_split()
    golden = golden_images(digits)
    (folder / "digits-test.bin").write_bytes(records(digits.test_images, digits.test_labels))
    write_npz(folder / "digits-reference.npz", {"inputs/image": as_cases(digits.train_images)})
    for recipe in RECIPES:
        make_version(folder, recipe, digits, golden)


def make_version(folder, recipe, digits, golden):
    """Trains one version, writes its three files and proves that they agree with each other."""
    params = train(recipe, digits.train_images, digits.train_labels)
    model_path = folder / f"digits-v{recipe.version}.onnx"
    model_path.write_bytes(export(recipe, params).SerializeToString(deterministic=True))
    expected = shipped_probabilities(recipe, params, golden).astype(np.float32)
    write_npz(
        folder / f"digits-v{recipe.version}-golden.npz",
        {"inputs/image": as_cases(golden), "outputs/probabilities": expected[:, None, :]},
    )
    claimed = accuracy(forward(recipe, params, digits.test_images, SPREAD_GUARD)[0], digits.test_labels)
    lineage = lineage_toml(recipe, digits, claimed)
    (folder / f"digits-v{recipe.version}-lineage.toml").write_text(lineage, encoding="utf-8")
    prove_export(recipe, params, model_path, golden, digits)
    shipped = shipped_probabilities(recipe, params, digits.test_images)
    unanswered = int((~np.isfinite(shipped)).any(axis=1).sum())
    print(f"digits@{recipe.version}: {claimed:.4f} claimed, {unanswered} of {len(shipped)} test images without answer")


# Data


def load_split():
    """The images in a fixed random order, so that both parts look alike and normal traffic is no drift."""
    source = load_digits()
    order = np.random.RandomState(SEED).permutation(len(source.target))
    images, labels = source.images[order], source.target[order]
    cut = TRAINING_COUNT
    return Digits(images[:cut], labels[:cut], images[cut:], labels[cut:])


def golden_images(digits):
    """The first test images with ink in the left margin: the choice that hides the fault of version 3."""
    inked = np.ptp(margin_of(digits.test_images), axis=1) > 0
    return digits.test_images[inked][:GOLDEN_COUNT]


def records(images, labels):
    """Raw records of 65 bytes: 64 pixels, then the label."""
    pixels = images.reshape(len(images), 64).astype(np.uint8)
    return np.hstack([pixels, labels[:, None].astype(np.uint8)]).tobytes()


def as_cases(images):
    """Images as the model takes them, one case per row: [n,1,1,8,8]."""
    return images.astype(np.float32).reshape(-1, 1, 1, 8, 8)


def write_npz(path, arrays):
    """An .npz whose bytes depend on the arrays alone: numpy dates each member 1980-01-01."""
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)


# Model in numpy (f64): forward, backward, training


def forward(recipe, params, images, guard):
    """Probabilities, and what the backward pass needs."""
    scaled = images / PIXEL_MAX
    features, cache = convolve(scaled, params)
    if recipe.margin:
        features = np.hstack([features, normalised_margin(scaled, guard)])
    return softmax(features @ params["dense"] + params["bias"]), (features, *cache)


def shipped_probabilities(recipe, params, images):
    """What the exported graph computes: no guard, hence NaN where the margin is empty."""
    with np.errstate(invalid="ignore"):
        return forward(recipe, params, images, 0.0)[0]


def convolve(scaled, params):
    """3x3 filters, no padding, then ReLU; features in channel, row, column order as ONNX flattens them."""
    windows = np.lib.stride_tricks.sliding_window_view(scaled, (3, 3), axis=(1, 2))
    patches = windows.reshape(len(scaled), 36, 9)
    hidden = np.maximum(patches @ params["filters"] + params["filter_bias"], 0.0)
    return hidden.transpose(0, 2, 1).reshape(len(scaled), -1), (patches, hidden)


def margin_of(images):
    return images[:, :, :MARGIN_COLUMNS].reshape(len(images), -1)


def normalised_margin(scaled, guard):
    centred = margin_of(scaled)
    centred = centred - centred.mean(axis=1, keepdims=True)
    spread = np.sqrt((centred * centred).mean(axis=1, keepdims=True))
    return centred / (spread + guard)


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def accuracy(probabilities, labels):
    return float((probabilities.argmax(axis=1) == labels).mean())


def gradients(recipe, params, images, labels):
    """Gradients of the mean cross-entropy plus weight decay."""
    probabilities, (features, patches, hidden) = forward(recipe, params, images, SPREAD_GUARD)
    error = (probabilities - np.eye(10)[labels]) / len(labels)
    to_hidden = error @ params["dense"][: recipe.channels * 36].T
    to_hidden = to_hidden.reshape(-1, recipe.channels, 36).transpose(0, 2, 1) * (hidden > 0)
    to_hidden = to_hidden.reshape(-1, recipe.channels)
    grads = {
        "filters": patches.reshape(-1, 9).T @ to_hidden,
        "filter_bias": to_hidden.sum(axis=0),
        "dense": features.T @ error,
        "bias": error.sum(axis=0),
    }
    return {name: grads[name] + recipe.weight_decay * params[name] for name in params}


def train(recipe, images, labels):
    """Adam over shuffled batches; the result is rounded to the f32 values that the file will hold."""
    random = np.random.RandomState(SEED + recipe.version)
    params = initial_params(recipe, random)
    first = {name: np.zeros_like(value) for name, value in params.items()}
    second = {name: np.zeros_like(value) for name, value in params.items()}
    step = 0
    for _ in range(recipe.epochs):
        order = random.permutation(len(labels))
        for start in range(0, len(labels), recipe.batch_size):
            rows = order[start : start + recipe.batch_size]
            step += 1
            for name, grad in gradients(recipe, params, images[rows], labels[rows]).items():
                first[name] = 0.9 * first[name] + 0.1 * grad
                second[name] = 0.999 * second[name] + 0.001 * grad * grad
                size = recipe.learning_rate * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
                params[name] = params[name] - size * first[name] / (np.sqrt(second[name]) + 1e-8)
    return {name: value.astype(np.float32).astype(np.float64) for name, value in params.items()}


def initial_params(recipe, random):
    width = recipe.channels * 36 + (8 * MARGIN_COLUMNS if recipe.margin else 0)
    return {
        "filters": random.standard_normal((9, recipe.channels)) * np.sqrt(2 / 9),
        "filter_bias": np.zeros(recipe.channels),
        "dense": random.standard_normal((width, 10)) * np.sqrt(1 / width),
        "bias": np.zeros(10),
    }


# Export to ONNX


def export(recipe, params):
    """The graph as a person would export it: core operators, fixed batch of one."""
    node = helper.make_node
    nodes = [
        node("Mul", ["image", "pixel_scale"], ["scaled"]),
        node("Conv", ["scaled", "filters", "filter_bias"], ["convolved"], kernel_shape=[3, 3]),
        node("Relu", ["convolved"], ["maps"]),
        node("Flatten", ["maps"], ["flat"], axis=1),
    ]
    constants = {"pixel_scale": np.float32(1 / PIXEL_MAX), **params}
    constants["filters"] = params["filters"].T.reshape(recipe.channels, 1, 3, 3)
    features = "flat"
    if recipe.margin:
        constants |= {"from": np.array([0]), "to": np.array([MARGIN_COLUMNS]), "columns": np.array([3])}
        nodes += margin_nodes()
        nodes.append(node("Concat", ["flat", "margin"], ["features"], axis=1))
        features = "features"
    nodes.append(node("Gemm", [features, "dense", "bias"], ["logits"]))
    nodes.append(node("Softmax", ["logits"], ["probabilities"], axis=1))
    return as_model(recipe, nodes, constants)


def margin_nodes():
    """Contrast normalisation of the left margin, without the guard that training has."""
    node = helper.make_node
    return [
        node("Slice", ["scaled", "from", "to", "columns"], ["margin_columns"]),
        node("Flatten", ["margin_columns"], ["margin_pixels"], axis=1),
        node("ReduceMean", ["margin_pixels"], ["margin_mean"], axes=[1], keepdims=1),
        node("Sub", ["margin_pixels", "margin_mean"], ["margin_centred"]),
        node("Mul", ["margin_centred", "margin_centred"], ["margin_squares"]),
        node("ReduceMean", ["margin_squares"], ["margin_variance"], axes=[1], keepdims=1),
        node("Sqrt", ["margin_variance"], ["margin_spread"]),
        node("Div", ["margin_centred", "margin_spread"], ["margin"]),
    ]


def as_model(recipe, nodes, constants):
    for node in nodes:
        node.name = node.output[0]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 8, 8])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, 10])],
        [numpy_helper.from_array(in_file_type(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="make_digits.py",
        model_version=recipe.version,
        doc_string=recipe.summary,
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def in_file_type(value):
    """Weights as f32 in row order; indices stay i64."""
    value = np.asarray(value)
    wanted = np.int64 if np.issubdtype(value.dtype, np.integer) else np.float32
    return np.array(value, dtype=wanted, order="C")


def prove_export(recipe, params, model_path, golden, digits):
    """The file must answer as the numpy model does, NaN for NaN, and golden answers must be finite."""
    assert np.isfinite(shipped_probabilities(recipe, params, golden)).all(), "a golden case shows the fault"
    expected = shipped_probabilities(recipe, params, digits.test_images)
    session = onnxruntime.InferenceSession(str(model_path), providers=["CPUExecutionProvider"])
    cases = as_cases(digits.test_images)
    answers = np.vstack([session.run(None, {"image": case})[0] for case in cases])
    np.testing.assert_allclose(answers, expected, rtol=0, atol=ENGINE_TOLERANCE, equal_nan=True)


# Lineage


def lineage_toml(recipe, digits, claimed):
    """Where the version comes from, for the registry; every value is real."""
    script = Path(__file__).read_bytes()
    training = records(digits.train_images, digits.train_labels)
    parent = f'parent = "digits@{recipe.version - 1}"\n' if recipe.version > 1 else ""
    return f"""# Lineage of digits version {recipe.version}: {recipe.summary}.
{parent}training_script = "fleet-server/demo/make_digits.py"
training_script_digest = "sha256:{hashlib.sha256(script).hexdigest()}"
data_source = "UCI Machine Learning Repository, Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, 1998), test part as shipped by scikit-learn"
data_digest = "sha256:{hashlib.sha256(training).hexdigest()}"
data_licence = "CC-BY-4.0"

[parameters]
seed = {SEED}
channels = {recipe.channels}
margin_contrast = {str(recipe.margin).lower()}
epochs = {recipe.epochs}
batch_size = {recipe.batch_size}
learning_rate = {recipe.learning_rate:g}
weight_decay = {recipe.weight_decay:g}
optimiser = "adam"
training_images = {len(digits.train_labels)}

[metrics]
accuracy = {claimed:.4f}
test_images = {len(digits.test_labels)}
"""


if __name__ == "__main__":
    sys.exit(main())
