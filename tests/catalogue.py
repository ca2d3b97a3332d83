"""Every public layer, loss and metric of fnn with calls that exercise it; tests find those that are missing here."""

import inspect

import fnn
from fnn.core.cases import integers, normal, probabilities, signs

SIZES = (2, 9, 10, 4)  # of the batches that all layers here take

LAYERS = {
    "adaptive_avg_pool": [lambda: fnn.adaptive_avg_pool(1), lambda: fnn.adaptive_avg_pool((2, 3))],
    "at": [
        lambda: fnn.serial(
            fnn.lift(lambda params, x: {"a": x, "b": x}),
            fnn.at("a", fnn.conv(4, 3, padding="SAME")),
            fnn.lift(lambda params, x: x["a"] + x["b"]),
        )
    ],
    "avg_pool": [
        lambda: fnn.avg_pool(2),
        lambda: fnn.avg_pool(3, stride=2, padding="SAME"),
        lambda: fnn.avg_pool(5, stride=1, padding=2, count_padding=True),
    ],
    "batch_norm": [lambda: fnn.batch_norm()],
    "conv": [
        lambda: fnn.conv(4, 3),
        lambda: fnn.conv(24, 3, padding="SAME"),
        lambda: fnn.conv(4, 3, stride=2, padding="SAME", bias=False),
        lambda: fnn.conv(4, 2, stride=3, padding="SAME"),
        lambda: fnn.conv(4, 3, dilation=2, padding=1),
        lambda: fnn.conv(4, 1),
        lambda: fnn.conv(4, 2, stride=2),
        lambda: fnn.conv(8, 3, groups=2, stride=2),
        lambda: fnn.conv(4, 3, stride=2, padding="REFLECT"),
        lambda: fnn.conv(4, 3, padding="REPLICATE"),
        lambda: fnn.conv(4, 3, padding="CIRCULAR"),
    ],
    "conv_transpose": [
        lambda: fnn.conv_transpose(4, 4, stride=2, padding="SAME"),
        lambda: fnn.conv_transpose(4, 3, stride=2, padding=1, output_padding=1),
        lambda: fnn.conv_transpose(4, 3, stride=2, groups=2),
    ],
    "dense": [lambda: fnn.dense(3)],
    "depthwise_conv": [
        lambda: fnn.depthwise_conv(3, multiplier=2, padding="SAME"),
        lambda: fnn.depthwise_conv(3, stride=2),
    ],
    "dropout": [lambda: fnn.dropout(0.5)],
    "elu": [lambda: fnn.elu()],
    "filter_pool": [lambda: fnn.filter_pool(fnn.data.filters.gaussian(3, 1.0), stride=2, padding="SAME")],
    "flatten": [lambda: fnn.flatten()],
    "gelu": [lambda: fnn.gelu(), lambda: fnn.gelu(approximate=False)],
    "global_avg_pool": [lambda: fnn.global_avg_pool()],
    "global_max_pool": [lambda: fnn.global_max_pool()],
    "group_norm": [lambda: fnn.group_norm(2)],
    "identity": [lambda: fnn.identity()],
    "layer_norm": [lambda: fnn.layer_norm()],
    "leaky_relu": [lambda: fnn.leaky_relu()],
    "lift": [lambda: fnn.lift(lambda params, x: 2 * x)],
    "log_softmax": [lambda: fnn.log_softmax()],
    "max_pool": [
        lambda: fnn.max_pool(2),
        lambda: fnn.max_pool(3, stride=2, padding="SAME"),
        lambda: fnn.max_pool(5, stride=1, padding=2),
    ],
    "parallel": [lambda: fnn.parallel(fnn.relu(), fnn.max_pool(3, stride=1, padding="SAME"), merge=fnn.concat)],
    "precision": [lambda: fnn.precision(fnn.serial(fnn.conv(4, 3), fnn.batch_norm()), "float32")],
    "relu": [lambda: fnn.relu()],
    "remat": [lambda: fnn.remat(fnn.serial(fnn.conv(4, 3, padding="SAME"), fnn.relu()))],
    "repeat": [lambda: fnn.repeat(fnn.serial(fnn.conv(4, 3, padding="SAME"), fnn.batch_norm(), fnn.relu()), 2)],
    "reshape": [lambda: fnn.reshape(-1, 4)],
    "residual": [lambda: fnn.residual(fnn.conv(4, 3, padding="SAME"), after=fnn.relu())],
    "separable_conv": [lambda: fnn.separable_conv(4, 3)],
    "serial": [lambda: fnn.serial(fnn.conv(4, 3), fnn.dropout(0.1), fnn.relu())],
    "shared": [lambda: fnn.serial(*[fnn.shared(fnn.conv(4, 3, padding="SAME"))] * 2)],
    "sigmoid": [lambda: fnn.sigmoid()],
    "silu": [lambda: fnn.silu()],
    "softmax": [lambda: fnn.softmax()],
    "softplus": [lambda: fnn.softplus()],
    "tanh": [lambda: fnn.tanh()],
}

CLASSES = [normal((2, 5)), integers((2,), 0, 5)]
MEASURES = {
    "accuracy": [(fnn.accuracy, *CLASSES)],
    "hinge": [(fnn.hinge, *CLASSES), (fnn.hinge, normal((2,)), signs((2,)))],
    "sigmoid_binary_cross_entropy": [(fnn.sigmoid_binary_cross_entropy, normal((2,)), probabilities((2,)))],
    "softmax_cross_entropy": [
        (fnn.softmax_cross_entropy, *CLASSES),
        (lambda y, t: fnn.softmax_cross_entropy(y, t, label_smoothing=0.1), normal((2, 5)), probabilities((2, 5))),
    ],
    "squared_error": [(fnn.squared_error, normal((2,)), normal((2,)))],
    "top_k_accuracy": [(lambda y, t: fnn.top_k_accuracy(y, t, 2), *CLASSES)],
    "zero_one": [(fnn.zero_one, *CLASSES)],
}


def public_layers():
    """Names in fnn of functions that return a Layer."""
    functions = {name: f for name, f in vars(fnn).items() if inspect.isfunction(f)}
    return {name for name, f in functions.items() if inspect.signature(f).return_annotation is fnn.Layer}


def public_measures():
    """Names in fnn of functions of predictions and what they should be: losses and metrics."""
    functions = {name: f for name, f in vars(fnn).items() if inspect.isfunction(f)}
    return {name for name, f in functions.items() if {"labels", "targets"} & set(inspect.signature(f).parameters)}
