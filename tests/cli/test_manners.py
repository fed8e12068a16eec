"""The command line's manners: no traceback whatever the streams and names are, wrong words are answered by the right ones."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import runner
from PIL import Image

import cnnengine

BUFFERED = {**os.environ, "PYTHONUNBUFFERED": ""}
"""What fails only when it is written out fails at the end then."""
ROOT = Path(__file__).resolve().parents[2]
MODEL = str(ROOT / "models" / "digits_lenet.onnx")
SAMPLE = str(ROOT / "models" / "samples" / "3.png")
LABELS = ("null", "één", "zwei\N{SNOWMAN}", "drie\N{SNOWMAN}", "vier", "fünf", "six", "sept", "otto", "nove")


@pytest.fixture
def cnn(capsys: pytest.CaptureFixture[str]):
    return runner(capsys)


def command(*arguments: str | bytes, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own; what it writes is decoded so that every byte survives."""
    return subprocess.run(
        [sys.executable, "-m", "cnnengine", *arguments],
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        env={**BUFFERED, **environment},
        timeout=120,
        check=False,
    )


def shell(line: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A line of sh, in which "$@" is the command with these arguments."""
    words = ["sh", "-c", line, "sh", sys.executable, "-m", "cnnengine", *arguments]
    return subprocess.run(words, capture_output=True, text=True, env=BUFFERED, timeout=120, check=False)


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one line on standard error."""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("cnnengine: ")
    return lines[0]


class TestStreams:
    @pytest.fixture
    def labels(self, tmp_path: Path) -> str:
        path = tmp_path / "labels.txt"
        path.write_text("\n".join(LABELS), encoding="utf-8")
        return str(path)

    @pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
    def test_labels_that_standard_output_cannot_encode(self, labels: str, encoding: str) -> None:
        done = command("predict", MODEL, SAMPLE, "--labels", labels, "--quiet", "--top", "1", PYTHONIOENCODING=encoding)
        assert (done.returncode, done.stderr) == (0, "")
        label = "drie\N{SNOWMAN}" if encoding == "utf-8" else "drie\\u2603"
        assert done.stdout.split("\t")[1].split()[0] == label

    def test_what_is_escaped_in_json_is_json(self, labels: str) -> None:
        done = command("predict", MODEL, SAMPLE, "--labels", labels, "--quiet", "--top", "10", "--json", PYTHONIOENCODING="ascii")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.isascii()
        top = json.loads(done.stdout)["outputs"]["logits"]["top"]
        assert {entry["label"] for entry in top} == set(LABELS)

    def test_a_name_that_is_no_text(self, tmp_path: Path) -> None:
        name = os.fsencode(tmp_path) + b"/\xff\xfe.png"
        Path(os.fsdecode(name)).write_bytes(Path(SAMPLE).read_bytes())
        done = command("predict", MODEL, name, "--quiet", "--json", PYTHONIOENCODING="utf-8")
        assert (done.returncode, done.stderr) == (0, "")
        assert os.fsencode(json.loads(done.stdout)["input"]) == name

    def test_names_with_newlines_are_one_line(self, tmp_path: Path) -> None:
        path = str(tmp_path / "a\nb\x1b[2J.png")
        Path(path).write_bytes(b"none")
        done = command("predict", MODEL, path, "--quiet")
        assert done.returncode == 1
        assert f"{path!r}: not an image" in one_line(done)

    def test_the_stream_is_left_as_it_was(self, cnn) -> None:
        before = sys.stdout.errors
        assert cnn("config").status == 0
        assert sys.stdout.errors == before

    def test_closed_standard_output(self) -> None:
        done = shell('"$@" >&-', "config")
        assert done.returncode == 2
        assert "standard output is closed" in one_line(done)

    @pytest.mark.parametrize("arguments", [("config",), ("--help",)])
    def test_a_full_disk(self, arguments: tuple[str, ...]) -> None:
        if not os.path.exists("/dev/full"):
            pytest.skip("there is no /dev/full")
        done = shell('"$@" >/dev/full', *arguments)
        assert done.returncode == 2
        assert one_line(done) == "cnnengine: standard output cannot be written: No space left on device"

    @pytest.mark.parametrize("arguments", [("info", "none.onnx"), ("fly",), ("predict", MODEL, "none.png")])
    def test_closed_standard_error(self, arguments: tuple[str, ...]) -> None:
        done = shell('"$@" 2>&-', *arguments)
        assert (done.returncode, done.stdout, done.stderr) == (1 if arguments[0] == "predict" else 2, "", "")

    def test_both_closed(self) -> None:
        assert shell('"$@" >&- 2>&-', "config").returncode == 2

    def test_a_reader_of_standard_error_that_leaves(self) -> None:
        read, write = os.pipe()
        os.close(read)
        words = [sys.executable, "-m", "cnnengine", "info", "none.onnx"]
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=write, text=True, env=BUFFERED, timeout=120, check=False)
        os.close(write)
        assert (done.returncode, done.stdout) == (2, "")

    def test_a_reader_of_the_help_that_leaves(self) -> None:
        read, write = os.pipe()
        os.close(read)
        words = [sys.executable, "-m", "cnnengine", "predict", "--help"]
        done = subprocess.run(words, stdout=write, stderr=subprocess.PIPE, text=True, env=BUFFERED, timeout=120, check=False)
        os.close(write)
        assert (done.returncode, done.stderr) == (141, "")


class TestInstructionSet:
    @pytest.mark.parametrize("arguments", [("--version",), ("config",), ("info", MODEL)])
    def test_one_that_is_not_there_is_one_line(self, arguments: tuple[str, ...]) -> None:
        done = command(*arguments, CNNENGINE_ISA="foo")
        assert (done.returncode, done.stdout) == (2, "")
        assert "CNNENGINE_ISA" in one_line(done)
        assert "received foo" in one_line(done)

    def test_in_python_everything_that_computes_raises_it(self) -> None:
        code = (
            "import cnnengine\n"
            "for name in ('load', 'Model', 'show_config', 'functional', 'InferenceSession', 'tasks'):\n"
            "    try:\n"
            "        getattr(cnnengine, name)\n"
            "    except cnnengine.CNNEngineError as error:\n"
            "        assert error.received == 'foo'\n"
            "    else:\n"
            "        raise SystemExit(name)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "CNNENGINE_ISA": "foo"}, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")


class TestWhere:
    """What an error is about is called what it is."""

    def test_options_files_and_tensors(self) -> None:
        assert str(cnnengine.InputError("wrong", tensor="--shape")) == "option --shape: wrong"
        assert str(cnnengine.InputError("wrong", tensor="--shape image")) == "option --shape image: wrong"
        assert str(cnnengine.InputError("wrong", tensor="-x")) == "tensor '-x': wrong"
        assert str(cnnengine.InputError("wrong", tensor="--")) == "tensor '--': wrong"
        assert str(cnnengine.InputError("wrong", file="a b", model="m")) == "model 'm', file 'a b': wrong"
        assert cnnengine.InputError("wrong", file="a").file == "a"
        assert cnnengine.InputError("wrong").locate(file="a").file == "a"

    def test_it_survives_pickling(self) -> None:
        error = cnnengine.InputError("wrong", file="a", expected=3)
        again = pickle.loads(pickle.dumps(error))
        assert (str(again), again.file) == (str(error), "a")

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("predict", MODEL, SAMPLE, "--labels", "."), "file '.'"),
            (("bench", "{folder}", "--against", "cnnengine"), "file '{folder}'"),
            (("bench",), "MODEL: no model"),
            (("check", MODEL, "--input", "none.npz"), "file 'none.npz'"),
            (("check", MODEL, "--input", SAMPLE), f"file '{SAMPLE}'"),
            (("check", MODEL, "--input", SAMPLE, "--shape", "1,1,32,32"), "option --shape"),
            (("profile", MODEL, "--seconds", "0.01", "--plot", "x.txt"), "option --plot"),
        ],
    )
    def test_messages_of_the_command(self, cnn, tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
        if any("--plot" in word for word in arguments):
            pytest.importorskip("matplotlib")
        result = cnn(*(word.format(folder=tmp_path) for word in arguments))
        assert (result.status, result.out, len(result.err)) == (2, [], 1)
        assert said.format(folder=tmp_path) in result.err[0]
        assert "tensor" not in result.err[0]

    def test_pickles_are_refused_without_advice_to_allow_them(self, cnn, tmp_path: Path) -> None:
        path = tmp_path / "objects.npy"
        np.save(path, np.array([{"a": 1}], object), allow_pickle=True)
        (tmp_path / "text.npy").write_bytes(b"this is no array")
        np.savez(tmp_path / "objects.npz", image=np.array([None, "a"], object))
        for name in ("objects.npy", "objects.npz", "text.npy"):
            for words in (("check", MODEL, "--input", str(tmp_path / name)), ("predict", MODEL, str(tmp_path / name))):
                result = cnn(*words)
                assert result.status in (1, 2)
                (line,) = [line for line in result.err if name in line]
                assert "allow_pickle" not in line
                assert ("Python objects" in line) == name.startswith("objects")


class TestFaults:
    def test_an_error_that_nobody_foresaw_is_one_line(self, cnn, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken() -> None:
            raise TypeError("first\nsecond")

        monkeypatch.setattr(cnnengine, "show_config", broken)
        result = cnn("config")
        assert (result.status, result.out) == (2, [])
        assert len(result.err) == 1
        assert "TypeError: first second" in result.err[0]
        assert "CNNENGINE_TRACEBACK" in result.err[0]

    def test_its_place_is_shown_on_request(self, cnn, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken() -> None:
            raise TypeError("wrong")

        monkeypatch.setattr(cnnengine, "show_config", broken)
        monkeypatch.setenv("CNNENGINE_TRACEBACK", "1")
        with pytest.raises(TypeError, match="wrong"):
            cnn("config")


class TestWords:
    @pytest.mark.parametrize(
        ("word", "meant"), [("predcit", "predict"), ("Profile", "profile"), ("quantise", "quantize"), ("checks", "check")]
    )
    def test_a_command_that_is_nearly_one(self, cnn, word: str, meant: str) -> None:
        result = cnn(word, MODEL)
        assert (result.status, result.out, len(result.err)) == (2, [], 1)
        assert f"{word!r}" in result.err[0]
        assert f"did you mean {meant!r}?" in result.err[0]

    @pytest.mark.parametrize("word", ["fly", MODEL, "x"])
    def test_a_command_that_is_like_none(self, cnn, word: str) -> None:
        result = cnn(word)
        assert (result.status, result.out, len(result.err)) == (2, [], 1)
        assert "did you mean" not in result.err[0]
        assert all(name in result.err[0] for name in ("predict", "info", "config"))

    @pytest.mark.parametrize(
        ("arguments", "meant"),
        [
            (("predict", MODEL, SAMPLE, "--batchsize", "3"), "--batch-size"),
            (("predict", MODEL, SAMPLE, "--batchsize=3"), "--batch-size"),
            (("predict", MODEL, SAMPLE, "--label", "x", "--sofmax"), "--softmax"),
            (("info", MODEL, "--shap3", "1"), "--shape"),
            (("check", MODEL, "--agianst", "reference"), "--against"),
        ],
    )
    def test_an_option_that_is_nearly_one(self, cnn, arguments: tuple[str, ...], meant: str) -> None:
        result = cnn(*arguments)
        assert (result.status, result.out, len(result.err)) == (2, [], 1)
        assert f"did you mean {meant!r}?" in result.err[0]
        assert f"cnnengine {arguments[0]} --help" in result.err[0]

    def test_an_option_of_another_command(self, cnn) -> None:
        result = cnn("info", MODEL, "--softmax")
        assert (result.status, len(result.err)) == (2, 1)
        assert "--softmax" in result.err[0]
        assert "did you mean" not in result.err[0]

    def test_too_many_words(self, cnn) -> None:
        result = cnn("info", MODEL, "another.onnx")
        assert (result.status, len(result.err)) == (2, 1)
        assert "another.onnx" in result.err[0]
        assert "did you mean" not in result.err[0]


class TestConfig:
    def test_json(self, cnn) -> None:
        result = cnn("config", "--json")
        assert (result.status, result.err, len(result.out)) == (0, [], 1)
        shown = json.loads(result.out[0])
        assert {**shown, "isas": tuple(shown["isas"])} == cnnengine.show_config()


class TestCompletion:
    @pytest.mark.parametrize("name", ["bash", "zsh", "tcsh"])
    def test_a_script_for_each_shell(self, cnn, name: str) -> None:
        pytest.importorskip("shtab", reason="shtab is not installed")
        result = cnn("--print-completion", name)
        assert (result.status, result.err) == (0, [])
        text = "\n".join(result.out)
        assert "predict" in text
        assert "batch-size" in text

    def test_bash_completes_commands_options_and_files(self, tmp_path: Path) -> None:
        pytest.importorskip("shtab", reason="shtab is not installed")
        (tmp_path / "script").write_text(command("--print-completion", "bash").stdout)
        (tmp_path / "model.onnx").touch()
        for words, found in (("pred", "predict"), ("info --js", "--json"), ("info mod", "model.onnx")):
            line = f"cnnengine {words}".split()
            asked = (
                "source ./script; COMP_WORDS=(" + " ".join(line) + f"); COMP_CWORD={len(line) - 1}; COMP_TYPE=9; "
                'compopt() { :; }; $(complete -p cnnengine | sed "s/.*-F \\([^ ]*\\) .*/\\1/") cnnengine '
                f"{line[-1]} {line[-2]}; "
                'echo "${COMPREPLY[@]}"'
            )
            done = subprocess.run(["bash", "-c", asked], cwd=tmp_path, capture_output=True, text=True, check=False)
            assert done.stdout.split() == [found], done.stderr

    def test_without_shtab_what_installs_it_is_named(self, cnn, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "shtab", None)
        result = cnn("--print-completion", "bash")
        assert (result.status, result.out, len(result.err)) == (2, [], 1)
        assert "pip install shtab" in result.err[0]


class TestWarnings:
    """What Python warns of is a line of the command's own, without file, line and source."""

    def test_a_large_photo_is_no_bomb(self, tmp_path: Path) -> None:
        """Pillow warns from its limit on and refuses twice that: it is lowered for the test, in the process itself."""
        for name in ("a.png", "b.png"):
            Image.new("L", (64, 64), 7).save(tmp_path / name)
        code = (
            "import sys; from PIL import Image; Image.MAX_IMAGE_PIXELS = 3000; from cnnengine.cli import main; "
            "sys.exit(main(sys.argv[1:]))"
        )
        for words in (
            ("predict", MODEL, str(tmp_path / "a.png"), "--quiet"),
            ("quantize", MODEL, "--data", str(tmp_path), "-o", str(tmp_path / "o.onnx")),
        ):
            if words[0] == "quantize":
                pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
            done = subprocess.run(
                [sys.executable, "-c", code, *words], capture_output=True, text=True, env=BUFFERED, timeout=120, check=False
            )
            assert done.returncode == 0, done.stderr
            assert "exceeds limit" not in done.stderr
            assert "Traceback" not in done.stderr

    def test_a_warning_is_one_line(self, cnn, tmp_path: Path) -> None:
        model = onnx.load(MODEL)
        model.opset_import[0].version = 99
        path = tmp_path / "new.onnx"
        onnx.save(model, path)
        done = command("info", str(path))
        lines = done.stderr.splitlines()
        assert any(line.startswith("cnnengine: warning: ") and "opset 99 is newer" in line for line in lines)
        assert not any("UserWarning" in line or "warnings.warn" in line for line in lines)
        assert all(line.startswith("cnnengine: ") for line in lines)

    def test_how_a_program_shows_warnings_is_left_as_it_was(self, cnn) -> None:
        before = warnings.showwarning
        cnn("config")
        assert warnings.showwarning is before
