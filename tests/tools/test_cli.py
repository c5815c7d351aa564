from __future__ import annotations

import pytest

from tools import cli


def test_an_unknown_verb_names_the_nearest(capsys):
    assert cli.main(["trian"]) == 2
    assert "did you mean train?" in capsys.readouterr().err


def test_without_words_the_verbs_are_listed(capsys):
    assert cli.main([]) == 0
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in cli.VERBS)


def test_an_error_is_one_line_and_its_kind_the_exit_code(capsys, tmp_path):
    missing = str(tmp_path / "none")
    assert cli.main(["retrieve", "x", "--run", missing]) == 4
    error = capsys.readouterr().err
    assert error.startswith("gr-jax retrieve: ")
    assert error.count("\n") == 1


def test_a_binding_without_value_is_refused(capsys):
    with pytest.raises(Exception, match="no value"):
        cli._take_bindings(["--gin.X"])
    assert cli._take_bindings(["--gin.X=1", "q"]) == (["q"], ["X=1"])
