"""Scenes: true sentences, images that show them, the same on every machine."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from embshare.tasks.captioning.scenes import (
    COLOURS,
    GROUNDS,
    SHAPES,
    SIDE,
    Scene,
    Thing,
    describe,
    draw,
    draw_split,
    imagine,
    scenes_of,
    scenes_set,
)
from embshare.tasks.captioning.words import is_plain


def thing(shape: str, row: int = 0, column: int = 0) -> Thing:
    return Thing(shape, "red", "large", "", row, column)


def test_the_data_set_is_always_the_same_and_its_splits_differ() -> None:
    found = scenes_set()
    assert found.fingerprint() == scenes_set().fingerprint()
    assert {split: len(rows) for split, rows in found.splits.items()} == {
        "train": 2000,
        "valid": 200,
        "test": 200,
    }
    scenes = {split: {scene for scene, _ in scenes_of(split)} for split in ("train", "test")}
    assert len(scenes["test"] - scenes["train"]) > 150
    lines = [line for rows in found.splits.values() for p in rows for line in p.captions]
    assert all(map(is_plain, lines))


def test_images_differ_and_do_not_change() -> None:
    pixels = draw_split("valid", 16)
    assert pixels.shape == (200, 16, 16, 3)
    np.testing.assert_array_equal(pixels, draw_split("valid", 16))
    assert len({image.tobytes() for image in pixels}) > 190


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("cell", range(SIDE * SIDE))
def test_a_thing_is_in_its_cell_in_its_colour(shape: str, cell: int) -> None:
    row, column = divmod(cell, SIDE)
    pixels = np.asarray(draw(Scene("white", (thing(shape, row, column),)), 32)).astype(int)
    inked = np.abs(pixels - GROUNDS["white"]).sum(axis=-1) > 60
    rows, columns = np.nonzero(inked)
    cells = {
        (r * SIDE // 32, c * SIDE // 32)
        for r, c in zip(rows.tolist(), columns.tolist(), strict=True)
    }
    assert cells == {(row, column)}
    full = np.abs(pixels - COLOURS["red"]).sum(axis=-1) < 3
    assert full.sum() > 5


def test_shapes_look_different() -> None:
    drawn = {draw(Scene("white", (thing(shape),)), 32).tobytes() for shape in SHAPES}
    assert len(drawn) == len(SHAPES)


def test_relations_are_true() -> None:
    random, checked = Random(5), 0
    for _ in range(300):
        scene = imagine(random)
        for line in describe(scene, random):
            for relation, axis, sign in (
                ("to the left of", "column", -1),
                ("to the right of", "column", 1),
                ("above", "row", -1),
                ("below", "row", 1),
            ):
                if relation in line and len({(t.colour, t.shape) for t in scene.things}) == 2:
                    before, after = line.split(relation)
                    one = next(t for t in scene.things if f"{t.colour} {t.shape}" in before)
                    other = next(t for t in scene.things if f"{t.colour} {t.shape}" in after)
                    assert (getattr(one, axis) - getattr(other, axis)) * sign > 0
                    checked += 1
    assert checked > 200
