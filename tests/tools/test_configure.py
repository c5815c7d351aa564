from __future__ import annotations

import pytest

from gr_jax.core import errors, records
from tools import configure

HEADER = "from __gin__ import dynamic_registration\nfrom gr_jax.core import records\n"


def file(tmp_path, text, name="a.gin"):
    path = tmp_path / name
    path.write_text(text)
    return str(path)


def test_files_then_bindings(tmp_path):
    body = "records.Measure:\n  value = 1.0\n  low = %LOW\n  high = 2.0\nLOW = 0.5\n"
    path = file(tmp_path, HEADER + body)
    configure.load([path], ["records.Measure.n=3", "LOW=0.25"])
    built = configure.build(records.Measure)
    assert built == records.Measure(value=1.0, low=0.25, high=2.0, n=3)
    again = file(tmp_path, configure.operative(), "b.gin")
    configure.load([again], [])
    assert configure.build(records.Measure) == built


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("import os\n", "'os'"),
        ("from subprocess import run\n", "subprocess"),
        (HEADER + "records.Measure.vlaue = 1\n", "vlaue"),
        (HEADER + "records.Mesure.value = 1\n", "Mesure"),
        (HEADER + "records.Measure.value = = 1\n", "gin syntax"),
    ],
)
def test_what_may_not_be_is_refused_in_one_line(tmp_path, text, named):
    with pytest.raises(errors.UsageError, match=named) as caught:
        configure.load([file(tmp_path, text)], [])
    assert "\n" not in str(caught.value)


def test_an_included_file_is_read_before_it_is_trusted(tmp_path):
    file(tmp_path, "import os\n", "evil.gin")
    with pytest.raises(errors.UsageError, match="'os'"):
        configure.load([file(tmp_path, "include 'evil.gin'\n")], [])


def test_a_binding_cannot_import():
    with pytest.raises(errors.UsageError, match="NAME=VALUE"):
        configure.load([], ["import os"])


def test_shipped_files_parse():
    folder = configure._SHIPPED
    for path in sorted((folder / "sweep").glob("*.gin")):
        configure.load([str(path)], ["COLLECTION='x'"])
