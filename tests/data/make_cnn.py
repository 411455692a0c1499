#!/usr/bin/env python3
"""Writes a convolutional network for 224x224 images: the work an edge device does, for the benches.

Speed does not depend on what a network has learnt, so the weights are random, seeded, and scaled to keep
values in range. The shape is that of MobileNet v2 at full width: 3x3 stem, inverted residual blocks with
depthwise convolutions and ReLU6, global pooling, one dense layer; 0.6 GFLOP (0.3 G multiply-adds), 14 MB.
Batch normalisation is folded into the convolutions, as exporters do.

Input `image` f32 [1,3,224,224], output `logits` f32 [1,1000], opset 17. The file is not committed.

Needs numpy and onnx as pinned in fleet-server/demo/requirements.txt. Usage: make_cnn.py PATH [--seed N]
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

IMAGE_SIDE = 224
CLASSES = 1000
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
# Expansion, output channels, repetitions, stride of the first: the table of MobileNet v2.
STAGES = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    network = Network(arguments.seed)
    network.build()
    arguments.path.write_bytes(network.model().SerializeToString(deterministic=True))
    print(f"{arguments.path}: {network.multiply_adds / 1e9:.2f} G multiply-adds")


class Network:
    """Collects nodes and weights in the order of the computation."""

    def __init__(self, seed):
        self.random = np.random.RandomState(seed)
        self.nodes = []
        self.weights = [
            numpy_helper.from_array(np.array(0, dtype=np.float32), "zero"),
            numpy_helper.from_array(np.array(6, dtype=np.float32), "six"),
        ]
        self.multiply_adds = 0
        # Shape of the newest value, so that layers need not be told.
        self.channels, self.side = 3, IMAGE_SIDE

    def build(self):
        value = self.relu6(self.convolution("image", STEM_CHANNELS, kernel=3, stride=2))
        for expansion, channels, repetitions, stride in STAGES:
            for repetition in range(repetitions):
                value = self.block(value, expansion, channels, stride if repetition == 0 else 1)
        value = self.relu6(self.convolution(value, HEAD_CHANNELS, kernel=1))
        value = self.add_node("Flatten", [self.add_node("GlobalAveragePool", [value])], axis=1)
        self.dense(value)

    def block(self, value, expansion, channels, stride):
        """Inverted residual: widen, filter each channel, narrow; add the input where shapes agree."""
        shortcut = value if stride == 1 and channels == self.channels else None
        if expansion > 1:
            value = self.relu6(self.convolution(value, self.channels * expansion, kernel=1))
        value = self.relu6(self.convolution(value, self.channels, kernel=3, stride=stride, groups=self.channels))
        value = self.convolution(value, channels, kernel=1)
        return self.add_node("Add", [value, shortcut]) if shortcut else value

    def convolution(self, value, channels, kernel, stride=1, groups=1):
        fan_in = self.channels // groups * kernel * kernel
        self.side = (self.side - 1) // stride + 1
        self.multiply_adds += channels * fan_in * self.side * self.side
        shape = (channels, self.channels // groups, kernel, kernel)
        self.channels = channels
        weights = self.weight(shape, np.sqrt(2 / fan_in))
        bias = self.weight((channels,), 0.01)
        pad = kernel // 2
        window = {"kernel_shape": [kernel, kernel], "strides": [stride, stride], "pads": [pad] * 4}
        return self.add_node("Conv", [value, weights, bias], group=groups, **window)

    def relu6(self, value):
        return self.add_node("Clip", [value, "zero", "six"])

    def dense(self, value):
        self.multiply_adds += self.channels * CLASSES
        weights = self.weight((self.channels, CLASSES), np.sqrt(1 / self.channels))
        self.add_node("Gemm", [value, weights, self.weight((CLASSES,), 0.01)], output="logits")

    def weight(self, shape, spread):
        name = f"weight_{len(self.weights)}"
        values = (self.random.standard_normal(shape) * spread).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def add_node(self, operator, inputs, output=None, **attributes):
        output = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def model(self):
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, IMAGE_SIDE, IMAGE_SIDE])
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, CLASSES])
        graph = helper.make_graph(self.nodes, "cnn", [image], [logits], self.weights)
        opsets = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="make_cnn.py")
        onnx.checker.check_model(model, full_check=True)
        return model


if __name__ == "__main__":
    main()
