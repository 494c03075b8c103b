from keras_retinaface import pixel_limit


def test_the_limit_goes_by_the_size_of_the_file():
    assert pixel_limit.of_file(21_550) == 2**25 < 13_300**2  # a black PNG
    assert pixel_limit.of_file(15_000_000) == 2**28 > 200e6  # a phone's largest photo
    assert pixel_limit.of_file(300_000) == 256 * 300_000
    assert pixel_limit.of_file(1, 10**9) == 10**9
