import keras
import numpy as np
import pytest

from keras_retinaface.layers import pyramid


@pytest.mark.parametrize(
    ("length", "expected"), [(6, [0, 0, 1, 1, 2, 2]), (5, [0, 0, 1, 1, 2]), (3, [0, 1, 2]), (4, [0, 0, 1, 2])]
)
def test_upsampling_repeats_and_drops_the_last_of_odd_sizes(length, expected):
    x = np.arange(3, dtype=np.float32).reshape(1, 1, 3, 1)
    found = pyramid.UpsampleLike()([x, np.zeros((1, 1, length, 7), np.float32)])
    assert found.shape == (1, 1, length, 1)
    np.testing.assert_array_equal(np.array(found).ravel(), expected)


def _model(num_extra=0, levels=(3, 4, 5)):
    features = {f"C{level}": keras.Input((None, None, level), name=f"C{level}") for level in levels}
    return keras.Model(features, pyramid.build(features, 4, negative_slope=0.0, num_extra=num_extra))


def _maps(height, width, levels=(3, 4, 5)):
    random = np.random.default_rng(0)
    return {
        f"C{level}": random.uniform(size=(1, -(-height >> level), -(-width >> level), level)).astype(np.float32)
        for level in levels
    }


def _rounded_up(side, level):
    return -(-side // (1 << level))


@pytest.mark.parametrize("size", [(64, 96), (33, 70), (1, 1)])
def test_levels_are_as_large_as_the_maps_and_further_ones_half_of_the_one_below(size):
    levels = _model(num_extra=2)(_maps(*size))
    assert list(levels) == ["P3", "P4", "P5", "P6", "P7"]
    for name, x in levels.items():
        assert tuple(x.shape) == (1, *(_rounded_up(side, int(name[1:])) for side in size), 4)


def test_what_a_coarse_map_shows_goes_down_and_not_up():
    model, maps = _model(), _maps(64, 64)
    before = model(maps)
    for changed, moved in (("C5", {"P3", "P4", "P5"}), ("C4", {"P3", "P4"}), ("C3", {"P3"})):
        after = model({**maps, changed: maps[changed] + 1.0})
        assert {name for name in before if np.any(np.array(before[name]) != np.array(after[name]))} == moved


def test_a_single_level_has_nothing_to_merge():
    model = _model(levels=(3,))
    assert list(model(_maps(32, 32, (3,)))) == ["P3"]
    assert not any(layer.name.startswith(("merge", "upsample", "add")) for layer in model.layers)
