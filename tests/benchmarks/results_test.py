from benchmarks import results


def _row(options, images=216, **numbers):
    row = {"model": "mobilenet025", "options": options, "images": images, "faces": 4725, "machine": "2 cores"}
    return {**row, "easy": 0.91456, "medium": 0.9, "hard": 0.75, "map": 0.37, **numbers}


def test_page_orders_rows_and_says_what_part_was_measured():
    slow = _row("five scales, flip, voting", seconds_per_image=4.5678, memory_mb=900.4, is_busy=True)
    plain = _row("original", seconds_per_image=0.1234, memory_mb=700.6)
    text = results.render([slow, plain])
    first, second = (line for line in text.splitlines() if line.startswith("| mobilenet025 |"))
    assert first == "| mobilenet025 | original |  | 91.46 | 90.00 | 75.00 | 37.00 | 0.123 | 701 |"
    assert "`--scales=500,800,1100,1400,1700 --flip --voting` | 91.46" in second
    assert second.endswith("| (4.568) | 900 |") and "2 cores; in brackets where other work ran beside it." in text
    assert "**216 of the 3,226 images" in text and "(4,725 faces)" in text
    assert "| biubug6/Pytorch_Retinaface MobileNet-0.25 | original size | 90.70 | 88.16 | 73.82 |  |" in text
    whole = results.render([_row("original", images=3226, seconds_per_image=0.1, memory_mb=1.0)])
    assert "The whole WIDER FACE validation set." in whole and "cut to them" not in whole and "mean, 2 cores." in whole
