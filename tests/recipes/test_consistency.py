import numpy as np

from recipes.mini.consistency import consistency_and_iou, told


def test_the_table_counts_what_is_kept_above_each_minimum():
    rows = [
        {"consistency": place / 10, "score": 1 - place / 10, "iou": place / 10}
        for place in range(11)
    ]
    text = told(rows)
    assert text.startswith("11 masks. Rank correlation with the IoU: 1.00; ")
    assert "(`--min-score`): -1.00." in text
    assert "| 0.5 | 6 | 0.750 | 0.200 |" in text
    assert "| 0 | 11 | 0.500 |  |" in text


def test_two_pictures_of_the_validation_set():
    rows = consistency_and_iou(0.1, limit=2)
    assert len(rows) >= 2
    values = np.array([[row["consistency"], row["score"], row["iou"]] for row in rows])
    assert ((values >= 0) & (values <= 1)).all()
    assert values[:, 0].max() > 0.1
