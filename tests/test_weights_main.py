"""The command: every answer on stdout, every mistake one line and exit code 2."""

import pytest

from ace_jax.weights.__main__ import main


def test_list_states_licences(capsys, tmp_path):
    (tmp_path / "xfeat.pt").write_bytes(b"")
    assert main(["list", "--weights_dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "here: xfeat.pt" in out
    for name in ("superpoint", "ace_g", "dinov2_vitl14_reg"):
        assert name in out
    assert out.count("NON-COMMERCIAL") == 3


def test_info_convert_verify(capsys, shared_dir, tmp_path):
    source = str(shared_dir / "golden/dinov2/b_reg4.pth")
    assert main(["info", source]) == 0
    out = capsys.readouterr().out
    assert "DINOv2" in out
    assert '"registers": 4' in out
    converted = str(tmp_path / "w.safetensors")
    assert main(["convert", source, "--out", converted]) == 0
    assert main(["verify", converted]) == 0
    assert "every tensor fits" in capsys.readouterr().out
    assert main(["info", str(shared_dir / "weights/xfeat.onnx")]) == 0
    assert "Apache-2.0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "required"),
        (["frobnicate"], "invalid choice"),
        (["info"], "required"),
        (["info", "/nowhere.pt"], "cannot read"),
        (["convert", "x.pt", "--out", "x.pt"], "must end in .safetensors"),
        (["download", "dinov9"], "there are xfeat"),
        (["verify", __file__], "neither a zip archive nor a pickle"),
    ],
)
def test_mistakes_are_one_line(capsys, arguments, line):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert line in captured.err
