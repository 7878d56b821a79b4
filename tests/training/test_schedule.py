"""What a training takes, and what is said of it."""

import math

import pytest

from smalti.training.schedule import LEAST_STEPS, choose, differences, share_measured, verdict, words_of
from smalti.training.training_plan import TrainingPlan


@pytest.mark.parametrize("minutes", [3, 20, 600])
@pytest.mark.parametrize(("latents", "pixels"), [(0.05, 0.05), (1.0, 0.1), (0.01, 2.0)])
def test_steps_fill_the_time_unless_they_are_the_fewest(minutes, latents, pixels):
    steps = choose({"latents": latents, "pixels": pixels}, TrainingPlan(minutes=minutes))
    spent = steps["latents"] * latents + steps["pixels"] * pixels
    assert min(steps.values()) >= LEAST_STEPS
    if min(steps.values()) > LEAST_STEPS:
        assert 60 * minutes - 240 < spent <= 60 * minutes


def test_given_steps_are_taken():
    assert choose({"latents": 1.0, "pixels": 9.0}, TrainingPlan(steps=7)) == {"latents": 7, "pixels": 7}


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ([math.inf, 3.0, 2.9], "too short to tell"),
        ([5.0], "too short to tell"),
        ([10.0 * 0.9**i for i in range(20)], "still falling, by 19.0% in a tenth"),
        ([10.0 * 0.98**i for i in range(10)], "still falling, by 2.0% in a tenth"),
        ([math.inf] * 15 + [10.0, 9.9, 9.8, 9.7, 9.6], "still falling"),
        ([10.0 - 0.025 * i for i in range(20)], "falling slowly"),
        ([90.0, 40.0, 20.0, 12.0] + [10.0 - 0.0005 * i for i in range(6)], "level"),  # the start does not count
        ([10.0, 9.0, 8.0, 8.5, 9.0, 9.5], "worse since epoch 3: more images"),
    ],
)
def test_the_verdict_says_whether_longer_training_helps(scores, words):
    assert verdict(scores).startswith(words)


def test_differences_name_options():
    before = {"plan": {"steps": 6, "seed": 0, "start": "", "lossless": False, "batch": None}}
    now = {"plan": {"steps": 6, "seed": 1, "start": "ab", "lossless": True, "batch": 4}}
    assert differences(before, now) == "no --batch and no --lossless and --seed 0, not 1 and no --from"
    assert differences(None, now) == "other options"
    assert differences({"plan": {}, "images": 1}, {"plan": {}, "images": 2}) == "other images"


def test_short_trainings_are_measured_on_few_images():
    assert share_measured("latents", 1) == 1 / 16
    assert share_measured("latents", 1000) == 0.5
    assert share_measured("pixels", 10**6) == 1
    assert [words_of(s) for s in (60, 119, 5399, 86400)] == ["60 seconds", "2 minutes", "90 minutes", "24.0 hours"]
