"""Small COCO files made in code."""

import json

import pytest

COCO_CATEGORIES = {
    "person": 1,
    "bicycle": 2,
    "car": 3,
    "motorcycle": 4,
    "airplane": 5,
    "boat": 9,
    "cat": 17,
    "dog": 18,
    "zebra": 24,
    "couch": 63,
    "dining table": 67,
    "tv": 72,
}


@pytest.fixture
def write_captions(tmp_path):
    """Writes a COCO captions file of (caption id, image id, text)."""

    def write(rows, name="captions.json"):
        annotations = [
            {"id": caption_id, "image_id": image_id, "caption": text}
            for caption_id, image_id, text in rows
        ]
        path = tmp_path / name
        path.write_text(json.dumps({"images": [], "annotations": annotations}), "utf-8")
        return str(path)

    return write


@pytest.fixture
def write_instances(tmp_path):
    """Writes a COCO instances file of (image id, category name, area, iscrowd)."""

    def write(rows, images=(), name="instances.json"):
        data = {
            "images": [{"id": i} for i in sorted({row[0] for row in rows} | set(images))],
            "categories": [{"id": i, "name": n} for n, i in COCO_CATEGORIES.items()],
            "annotations": [
                {
                    "id": number,
                    "image_id": image_id,
                    "category_id": COCO_CATEGORIES[category],
                    "area": area,
                    "iscrowd": crowd,
                }
                for number, (image_id, category, area, crowd) in enumerate(rows)
            ],
        }
        path = tmp_path / name
        path.write_text(json.dumps(data), "utf-8")
        return str(path)

    return write
