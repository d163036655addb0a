"""The facts of the machine are JSON values and name what a number needs."""

import json
from datetime import datetime, timezone

import pytest
import torch

from shrink.measure.environment import describe_environment


def test_facts_are_json_values_with_what_a_number_needs() -> None:
    facts = describe_environment("cpu", dtype=torch.bfloat16, batch=4)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["device"] == "cpu"
    assert facts["device_name"] == facts["cpu"] != ""
    assert (facts["dtype"], facts["batch"]) == ("bfloat16", 4)
    assert facts["threads"] == torch.get_num_threads()
    assert facts["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_date_is_utc() -> None:
    date = datetime.fromisoformat(describe_environment()["date"])
    assert date.utcoffset() == timezone.utc.utcoffset(None)
    assert abs((datetime.now(timezone.utc) - date).total_seconds()) < 60


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_names_its_software() -> None:
    facts = describe_environment("cuda")
    assert facts["cuda"] == torch.version.cuda
    assert facts["device_name"] == torch.cuda.get_device_name()
    assert json.loads(json.dumps(facts)) == facts
