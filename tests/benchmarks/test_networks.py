"""The benchmark's networks: the description alone, and each installed library against fnn's automatic gradients."""

from functools import cache

import numpy as np
import pytest

from benchmarks.networks import NETWORKS, Network, NotSupported, build
from benchmarks.networks import nodes as n
from benchmarks.networks.agree import Disagreement, differences, require_agreement, tolerances_of
from benchmarks.networks.weights import draw_weights
from fnn import train

# Height and width differ, and so do all numbers of channels: whoever swaps two axes is seen.
IMAGES = Network(
    "images",
    "every layer for images",
    (3, 12, 8, 2),
    5,
    (
        *(n.Conv(6, 3, 1, 1, bias=False), n.BatchNorm(), n.Relu(), n.MaxPool(3, 2, 1)),
        n.Residual((n.Conv(12, 3, 2, 1, bias=False), n.BatchNorm()), (n.Subsample(12),)),
        n.Residual((n.Conv(10, 3, 1, 1),), (n.Conv(10, 1),)),
        *(n.ConvTranspose(4, 4, 2, 1), n.AvgPool(2, 1), n.Flatten(), n.Dense(5)),
    ),
)
GROUPS = Network(
    "groups",
    "grouped and depthwise, squared error",
    (3, 6, 4, 8),
    None,
    (n.Conv(16, 3, 1, 1, groups=4), n.Relu(), n.Conv(16, 3, 1, 1, groups=16), n.Conv(8, 1)),
)
TOKENS = Network(
    "tokens",
    "every layer for tokens",
    (3, 8, 4, 2),
    5,
    (
        *(n.Conv(12, 2, 2), n.Tokens(), n.PositionEmbedding()),
        n.Residual((n.LayerNorm(), n.Attention(3))),
        n.Residual((n.LayerNorm(), n.Dense(20), n.Gelu(), n.Dense(12))),
        *(n.GlobalAvgPool(), n.Dense(5)),
    ),
)
MODULES = {"flax.nnx": "flax", "equinox": "equinox", "haiku": "haiku", "torch": "torch"}
# Every library once, fnn and the one of another layout on all; the benchmark itself refuses to time what disagrees, so
# that one network in fnn is enough where not all tests are asked for.
PROGRAMS = (
    (TOKENS, "fnn", "hand"),
    *(
        pytest.param(*choice, marks=pytest.mark.long)
        for choice in (
            (IMAGES, "fnn", "hand"),
            (GROUPS, "fnn", "hand"),
            (IMAGES, "stax", "defaults"),
            (TOKENS, "haiku", "defaults"),
            (TOKENS, "flax.nnx", "defaults"),
            (IMAGES, "equinox", "defaults"),
            (IMAGES, "torch", "contiguous"),
            (IMAGES, "torch", "channels last"),
            (GROUPS, "torch", "channels last"),
            (TOKENS, "torch", "contiguous"),
        )
    ),
)


@cache
def truth(network):
    program = build(network, "fnn", "auto, defaults")
    return program.first(), tolerances_of(program)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("mlp", 784 * 1024 + 1024 + 1024 * 1024 + 1024 + 1024 * 10 + 10),
        ("lenet5", 61_706),
        ("mnist_cnn", 320 + 18_496 + 7 * 7 * 64 * 256 + 256 + 2_570),
        ("convnetjs", 22_466),
        ("resnet20", 269_722),
        ("resnet18", 11_689_512),
    ],
)
def test_networks_have_the_known_number_of_parameters(name, size):
    assert NETWORKS[name].size() == size


def test_every_network_ends_in_logits_or_in_its_input():
    for network in NETWORKS.values():
        wanted = network.input if network.classes is None else (network.input[0], network.classes)
        assert n.output(network.layers, network.input) == wanted, network.name


@pytest.mark.parametrize(("network", "library", "variant"), PROGRAMS, ids=lambda value: getattr(value, "name", value))
@pytest.mark.long
def test_libraries_take_the_same_first_step(network, library, variant):
    if library in MODULES:
        pytest.importorskip(MODULES[library])
    want, allowed = truth(network)
    require_agreement(library, build(network, library, variant).first(), want, allowed)


@pytest.mark.parametrize("network", [GROUPS, TOKENS], ids=lambda network: network.name)
def test_a_library_without_a_layer_says_so(network):
    with pytest.raises(NotSupported, match="stax has n"):
        build(network, "stax", "defaults")


def test_steps_carry_on_and_the_first_step_can_be_seen_again():
    program = build(TOKENS, "fnn", "hand")
    before = program.first()
    costs = program.prepare()
    assert min(costs.trace_seconds, costs.compile_seconds, costs.temp_bytes, costs.argument_bytes) > 0
    assert program.run(2) > 0
    assert int(program._state.step) == 2
    assert max(differences(program.first(), before).values()) == 0


def test_disagreement_names_the_program_and_the_leaf():
    gradient = {path: array.astype(np.float64) for path, array in draw_weights(TOKENS).items()}
    allowed = {"loss": 1e-4} | dict.fromkeys(gradient, 1e-3)

    def judge(**changes):
        return require_agreement("a library", (1.0, {**gradient, **changes}), (1.0, gradient), allowed)

    kernel = gradient["06_dense/kernel"]
    assert 1e-4 < judge(**{"06_dense/kernel": kernel * 1.0005}) < 1e-3
    for wrong in (kernel * 1.01, kernel * np.nan, kernel.T):
        with pytest.raises(Disagreement, match=r"a library .* in 1 of .*: 06_dense/kernel by "):
            judge(**{"06_dense/kernel": wrong})
    with pytest.raises(Disagreement, match="one more by inf"):
        judge(**{"one more": kernel})
    with pytest.raises(Disagreement, match=r"loss by 1.0e-02"):
        require_agreement("a library", (1.01, gradient), (1.0, gradient), allowed)


@pytest.mark.parametrize("kept", [True, False])
def test_memory_is_kept_where_a_variant_says_so(kept, monkeypatch):
    asked = []
    monkeypatch.setattr(train, "keep_memory", lambda: asked.append(1) or kept)
    build(TOKENS, "fnn", "hand")
    assert asked == []
    if kept:
        assert build(TOKENS, "fnn", "hand, memory kept")._mode == "hand"
    else:
        with pytest.raises(NotSupported, match="gives freed memory back"):
            build(TOKENS, "fnn", "hand, memory kept")
    assert asked == [1]


def test_unknown_variants_are_refused():
    with pytest.raises(ValueError, match="torch has the variants contiguous, channels last, compiled; got 'defaults'"):
        build("mlp", "torch", "defaults")
