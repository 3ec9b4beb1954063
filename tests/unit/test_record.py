"""The record: what crosses every boundary, and its schema."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest

from siderostat import record, store
from siderostat.errors import NewerSchema
from siderostat.record import Attempt, Cell, Reason, Record, Status
from tests.records import cell, failed, judged, ok

SCHEMA = json.loads((Path(record.__file__).parent / "schema" / "record-1.json").read_text())
SINCE_THE_FIRST_SAMPLES = {  # absent from records that were written before they were thought of
    *("quality", "measure", "energy", "group", "reference", "lead_s", "nameplate_w", "model", "code"),
    *("started_at", "device_s", "sensors"),
}
SAMPLES = Path(__file__).parents[1] / "data" / "schema-1.jsonl"


@pytest.mark.parametrize("made", [ok(), failed(), ok([0.1, 0.2], flags=["contended"], repeat=1), judged()])
def test_a_record_survives_its_json(made: Record):
    assert store.parse(made.to_json()) == made


def test_nan_is_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        ok([math.nan]).to_json()


def test_the_key_is_the_same_everywhere():
    assert cell().key() == "f082e70f349a0c65"
    assert cell().key() == Cell(**dataclasses.asdict(cell())).key()
    assert cell(batch=8).key() != cell().key()


def test_a_cell_that_is_only_timed_has_the_key_it_had_before_there_was_anything_else():
    assert cell(measure="throughput").key() == "f082e70f349a0c65"
    assert len({cell(measure=m).key() for m in record.MEASURES}) == 4


def test_the_key_does_not_depend_on_the_order_of_options():
    assert cell(options={"a": 1, "b": 2}).key() == cell(options={"b": 2, "a": 1}).key()


def test_every_field_is_described_with_its_unit():
    def undescribed(schema, path):
        for name, inner in schema.get("properties", {}).items():
            if "description" not in inner:
                yield f"{path}/{name}"
            elif name.endswith("_s") and inner.get("type") != "array" and "econds" not in inner["description"]:
                yield f"{path}/{name} names no unit"
            yield from undescribed(inner, f"{path}/{name}")
            yield from undescribed(inner.get("items", {}), f"{path}/{name}[]")

    assert not list(undescribed(SCHEMA, ""))


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        (Record, []),
        (Attempt, ["attempt"]),
        (Cell, ["attempt", "cell"]),
        (record.Protocol, ["attempt", "protocol"]),
        (record.Quality, ["quality"]),
    ],
)
def test_the_schema_names_exactly_the_fields_of_the_types(kind, path):
    schema = SCHEMA
    for step in path:
        schema = schema["properties"][step]
    assert set(schema["properties"]) - {"key"} == {f.name for f in dataclasses.fields(kind)}
    assert set(schema["required"]) == set(schema["properties"]) - SINCE_THE_FIRST_SAMPLES


def test_the_schema_knows_every_status_and_reason():
    assert set(SCHEMA["properties"]["status"]["enum"]) == {s.value for s in Status}
    assert set(SCHEMA["properties"]["reason"]["enum"]) == {None, *(r.value for r in Reason)}


def test_a_newer_schema_is_refused_in_a_sentence():
    newer = json.loads(ok().to_json()) | {"schema": 99}
    with pytest.raises(NewerSchema, match="schema 99 is newer than 1.*upgrade"):
        store.parse(json.dumps(newer))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"status": "fine"}, "status"),
        ({"peak_bytes": -1}, "peak_bytes"),
        ({"surprise": 1}, "surprise"),
        ({"attempt": {}}, "attempt"),
    ],
)
def test_what_is_no_record_is_refused_with_its_place(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        store.parse(json.dumps(json.loads(ok().to_json()) | change))


def test_frozen_samples_of_schema_1_load_for_ever():
    records, warnings = store.read_journal(SAMPLES)
    assert not warnings
    assert {r.status for r in records} == {Status.OK, Status.CRASH}
    assert all(math.isfinite(s) for r in records for b in r.bursts for s in b.seconds)
