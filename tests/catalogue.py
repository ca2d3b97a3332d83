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
    "celu": [lambda: fnn.celu()],
    "channel_dropout": [lambda: fnn.channel_dropout(0.5)],
    "channel_shuffle": [lambda: fnn.channel_shuffle(2)],
    "class_token": [lambda: fnn.serial(fnn.reshape(-1, 4), fnn.class_token())],
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
    "embed": [lambda: fnn.serial(fnn.lift(lambda params, x: (x > 0).astype(int)), fnn.embed(2, 3))],
    "feed_forward": [lambda: fnn.feed_forward(4, 8, dropout_rate=0.1), lambda: fnn.feed_forward(3, 8, gated=True)],
    "filter_pool": [lambda: fnn.filter_pool(fnn.data.filters.gaussian(3, 1.0), stride=2, padding="SAME")],
    "flatten": [lambda: fnn.flatten()],
    "gelu": [lambda: fnn.gelu(), lambda: fnn.gelu(approximate=False)],
    "global_avg_pool": [lambda: fnn.global_avg_pool()],
    "global_max_pool": [lambda: fnn.global_max_pool()],
    "glu": [lambda: fnn.glu()],
    "group_norm": [lambda: fnn.group_norm(2)],
    "hard_sigmoid": [lambda: fnn.hard_sigmoid()],
    "hard_swish": [lambda: fnn.hard_swish()],
    "hard_tanh": [lambda: fnn.hard_tanh()],
    "identity": [lambda: fnn.identity()],
    "instance_norm": [lambda: fnn.instance_norm()],
    "layer_norm": [lambda: fnn.layer_norm()],
    "leaky_relu": [lambda: fnn.leaky_relu()],
    "lift": [lambda: fnn.lift(lambda params, x: 2 * x)],
    "local_response_norm": [
        lambda: fnn.local_response_norm(3),
        lambda: fnn.local_response_norm(3, across_channels=False),
    ],
    "log_softmax": [lambda: fnn.log_softmax()],
    "max_pool": [
        lambda: fnn.max_pool(2),
        lambda: fnn.max_pool(3, stride=2, padding="SAME"),
        lambda: fnn.max_pool(5, stride=1, padding=2),
    ],
    "maxout": [lambda: fnn.maxout(2)],
    "mish": [lambda: fnn.mish()],
    "multi_head_attention": [
        lambda: fnn.serial(fnn.reshape(-1, 4), fnn.multi_head_attention(6, 2)),
        lambda: fnn.serial(
            fnn.reshape(-1, 4),
            fnn.multi_head_attention(
                8, 4, head_features=3, key_heads=2, causal=True, window=(9, 0), dropout_rate=0.1, norm=fnn.layer_norm()
            ),
        ),
    ],
    "parallel": [lambda: fnn.parallel(fnn.relu(), fnn.max_pool(3, stride=1, padding="SAME"), merge=fnn.concat)],
    "pixel_shuffle": [lambda: fnn.pixel_shuffle(2)],
    "pixel_unshuffle": [lambda: fnn.serial(fnn.pixel_shuffle(2), fnn.pixel_unshuffle(2))],
    "position_embedding": [lambda: fnn.position_embedding()],
    "precision": [lambda: fnn.precision(fnn.serial(fnn.conv(4, 3), fnn.batch_norm()), "float32")],
    "prelu": [lambda: fnn.prelu(), lambda: fnn.prelu(shared=True)],
    "quick_gelu": [lambda: fnn.quick_gelu()],
    "relu": [lambda: fnn.relu()],
    "relu6": [lambda: fnn.relu6()],
    "remat": [lambda: fnn.remat(fnn.serial(fnn.conv(4, 3, padding="SAME"), fnn.relu()))],
    "repeat": [lambda: fnn.repeat(fnn.serial(fnn.conv(4, 3, padding="SAME"), fnn.batch_norm(), fnn.relu()), 2)],
    "reshape": [lambda: fnn.reshape(-1, 4)],
    "residual": [lambda: fnn.residual(fnn.conv(4, 3, padding="SAME"), after=fnn.relu())],
    "selu": [lambda: fnn.selu()],
    "separable_conv": [lambda: fnn.separable_conv(4, 3)],
    "serial": [lambda: fnn.serial(fnn.conv(4, 3), fnn.dropout(0.1), fnn.relu())],
    "shared": [lambda: fnn.serial(*[fnn.shared(fnn.conv(4, 3, padding="SAME"))] * 2)],
    "rms_norm": [lambda: fnn.rms_norm()],
    "sigmoid": [lambda: fnn.sigmoid()],
    "silu": [lambda: fnn.silu()],
    "sinusoidal_positions": [lambda: fnn.sinusoidal_positions()],
    "softmax": [lambda: fnn.softmax()],
    "softplus": [lambda: fnn.softplus()],
    "softsign": [lambda: fnn.softsign()],
    "squeeze_excite": [lambda: fnn.squeeze_excite(4, 2)],
    "stochastic_depth": [lambda: fnn.stochastic_depth(0.5), lambda: fnn.stochastic_depth(0.5, "batch")],
    "tanh": [lambda: fnn.tanh()],
    "transformer_block": [lambda: fnn.serial(fnn.reshape(-1, 4), fnn.transformer_block(4, 2, 8, dropout_rate=0.1))],
}

CLASSES = [normal((2, 5)), integers((2,), 0, 5)]
MEASURES = {
    "absolute_error": [(fnn.absolute_error, normal((2, 3)), normal((2, 3)))],
    "accuracy": [(fnn.accuracy, *CLASSES)],
    "hinge": [(fnn.hinge, *CLASSES), (fnn.hinge, normal((2,)), signs((2,)))],
    "huber": [(fnn.huber, normal((2, 3)), normal((2, 3)))],
    "log_cosh": [(fnn.log_cosh, normal((2, 3)), normal((2, 3)))],
    "poisson": [(fnn.poisson, normal((2, 3)), normal((2, 3)))],
    "sigmoid_binary_cross_entropy": [(fnn.sigmoid_binary_cross_entropy, normal((2,)), probabilities((2,)))],
    "smooth_l1": [(fnn.smooth_l1, normal((2, 3)), normal((2, 3)))],
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
