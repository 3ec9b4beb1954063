"""What the report says of models that were trained or sampled from."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from siderostat import reports
from siderostat.record import TIME_TO_QUALITY
from siderostat.reports.charts import quality_charts
from siderostat.reports.document import document, headlines
from siderostat.reports.quality import grid_png, headline, learned, table
from siderostat.reports.run import RunData
from tests.records import failed, judged, ok


def run(tmp_path, *records) -> RunData:
    return RunData(tmp_path, {"run": "r", "grade": "quick"}, list(records))


def only(tmp_path, *records):
    (found,) = learned([run(tmp_path, *records)])
    return found


def test_a_model_is_no_throughput_case_and_the_other_way_round(tmp_path):
    both = run(tmp_path, ok(), judged())
    assert [c.cell.measure for c in both.cases] == ["throughput"]
    assert [cell.measure for cell, _ in both.trained] == ["quality"]


def test_the_sentence_names_figure_cost_and_target(tmp_path):
    assert headline(only(tmp_path, judged())) == "NLL 0.200 after 200 galaxy images (20.0 s); the target of 0.3 is met."
    assert "the target of 0.1 is not met" in headline(only(tmp_path, judged(target=0.1)))
    some = only(tmp_path, judged(), judged((0.5, 0.4), round=1))
    assert "NLL 0.300 after" in headline(some)
    assert "met by 1 of 2" in headline(some)


def test_the_time_to_quality_has_an_interval_and_says_who_did_not_reach_it(tmp_path):
    records = [
        judged((0.5, 0.2, 0.1), round=0, measure=TIME_TO_QUALITY),
        judged((0.2,), round=1, measure=TIME_TO_QUALITY),
        judged((0.5, 0.4), round=2, measure=TIME_TO_QUALITY),
    ]
    # 20 s and 10 s: geometric mean 14.1 s.
    assert headline(only(tmp_path, *records[:2])).startswith("Time to NLL 0.3: 14.1 (")
    assert headline(only(tmp_path, *records)).endswith("at batch 4; 1 of 3 processes did not reach it.")
    assert "not reached" in headline(only(tmp_path, records[2]))


def test_a_process_that_never_looked_is_no_evidence(tmp_path):
    assert not learned([run(tmp_path, failed(of=judged().attempt.cell))])


def test_the_table_gives_median_and_extremes_of_the_last_look(tmp_path):
    made = table(only(tmp_path, judged((0.5, 0.2)), judged((0.9, 0.4), round=1), judged((0.9, 0.3), round=2)))
    assert made.rows[0].cells == ["NLL (target 0.3)", "0.300", "0.200", "0.400"]
    assert made.rows[1].cells[0] == "ellipticity RMSE"
    assert "measured" in made.caption
    assert table(only(tmp_path, judged())).rows[0].cells == ["NLL (target 0.3)", "0.200"]


def test_predictions_are_drawn_against_the_truth(tmp_path):
    charts = {c.name: c for c in quality_charts(only(tmp_path, judged()))}
    assert set(charts) == {"predicted_ellipticity", "predicted_redshift", "learning"}
    spec = charts["predicted_ellipticity"].spec
    assert spec["datasets"][spec["layer"][0]["data"]["name"]] == [
        {"series": "e1", "true": 0.1, "predicted": 0.05},
        {"series": "e1", "true": -0.2, "predicted": -0.1},
    ]
    assert charts["predicted_ellipticity"].caption.startswith("2 galaxy images that the model was not trained on")


def test_one_look_is_no_learning_curve(tmp_path):
    assert "learning" not in {c.name for c in quality_charts(only(tmp_path, judged((0.2,))))}


def test_pictures_stand_in_a_grid_of_eight_across():
    pixels = np.arange(9 * 2 * 2 * 3, dtype=np.uint8).reshape(9, 2, 2, 3)
    image = np.asarray(Image.open(io.BytesIO(grid_png(packed(pixels)))))[::2, ::2]
    assert image.shape == (5, 23, 3)
    assert np.array_equal(image[:2, :2], pixels[0])
    assert np.array_equal(image[3:, :2], pixels[8])
    assert (image[2] == 255).all()


def test_pictures_of_another_shape_than_they_say_are_refused():
    wrong = packed(np.zeros((1, 2, 2, 3), np.uint8)) | {"shape": [1, 4, 4, 3]}
    with pytest.raises(ValueError, match="reshape"):
        grid_png(wrong)


def test_every_form_of_the_report_has_it(tmp_path):
    both = run(tmp_path, ok(), judged())
    written = reports.write([both], tmp_path / "report")
    page = written["report.html"].read_text()
    assert "How good the models are" in page
    assert 'src="data:image/png;base64,' in page
    assert "Predicted against true ellipticity" in page
    assert "NLL 0.200 after 200 galaxy images" in written["report.md"].read_text()
    rows = json.loads(written["report.json"].read_text())["quality"]
    assert [(r["items"], r["figure"], r["value"]) for r in rows][:2] == [
        (100, "nll", 0.5),
        (100, "ellipticity_rmse", 0.25),
    ]
    assert len(written["quality.csv"].read_text().splitlines()) == 1 + len(rows)
    assert any("NLL 0.200" in line for line in headlines(both))
    assert len(document([both]).learned) == 1


def packed(pixels: np.ndarray) -> dict:
    from siderostat.worker import _packed

    return _packed(pixels)
