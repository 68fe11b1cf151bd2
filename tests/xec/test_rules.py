import math

import numpy as np
import pytest
import torch
from gammas import START, anchors_of, gammas

from sciml.xec.physics.constants import INNER, INVALID, LIGHT, SENSORS
from sciml.xec.physics.rules import energy_terms, interaction_time
from sciml.xec.physics.sensors import sensors


def test_time_of_the_interaction_is_exact_from_the_true_place() -> None:
    batch = {name: values.double() for name, values in gammas(6).items()}
    walk = torch.zeros(2, dtype=torch.float64)
    anchors = anchors_of(batch["npho"], batch["relative_time"])
    found = interaction_time(anchors, batch["relative_time"], batch["uvw"], walk)
    truth = START + batch["xyz"].norm(dim=1) / LIGHT
    # the times of the file are float32 numbers of some 600 ns
    torch.testing.assert_close(1e9 * batch["time_min"] + found, truth, rtol=0, atol=2e-4)


def test_time_is_the_mean_of_a_slow_formula() -> None:
    torch.manual_seed(1)
    batch = {name: values.double() for name, values in gammas(3).items()}
    times = batch["relative_time"] + 1e-9 * torch.randn(3, SENSORS)
    times[0, 2000:2100] = INVALID
    anchors = anchors_of(batch["npho"], times)
    walk = torch.tensor([10.0, 0.2], dtype=torch.float64)
    found = interaction_time(anchors, times, batch["uvw"], walk)
    for event in range(3):
        late, weight = [], []
        for sensor in range(SENSORS):
            n, t = batch["npho"][event, sensor].item(), times[event, sensor].item()
            electrons = n * (0.12 if sensor < INNER else 0.16)
            if electrons < 20 or t > 9e9:
                continue
            away = np.linalg.norm(batch["xyz"][event].numpy() - sensors().position[sensor])
            late.append(1e9 * t - away * 1.61 / 29.979 - 10.0 / math.sqrt(electrons) - 0.2)
            weight.append(1 / (49 / electrons + 0.01))
        values, own = np.array(late), np.array(weight)
        mean = np.average(values, weights=own)
        for _ in range(2):
            mean = np.average(values, weights=own / (1 + ((values - mean) / 0.8) ** 2))
        assert found[event].item() == pytest.approx(mean, abs=1e-4)


def test_without_hits_there_is_no_time() -> None:
    batch = gammas(2)
    batch["relative_time"][0] = INVALID
    anchors = anchors_of(batch["npho"], batch["relative_time"])
    found = interaction_time(anchors, batch["relative_time"], batch["uvw"], torch.zeros(2))
    assert found.isnan().tolist() == [True, False]


def test_energy_terms_are_faces_by_depth() -> None:
    faces = torch.arange(12.0).reshape(2, 6)
    found = energy_terms(faces, torch.tensor([1.0, 4.0]))
    assert found[0].tolist() == [0, 1, 2, 3, 4, 5] + [0] * 6 + [0, 1, 2, 3, 4, 5]
    assert found[1].tolist() == pytest.approx(
        [6, 7, 8, 9, 10, 11]
        + [n * math.log(4) for n in range(6, 12)]
        + [4 * n for n in range(6, 12)]
    )
