"""What libraries do when they are imported, and what they are kept from."""

import pytest

from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.libraries import optional_library

pytest.importorskip("openvino")


def test_openvino_reports_nothing_and_starts_no_process(python):
    """And whoever wants its telemetry elsewhere in the process finds it."""
    code = (
        "import multiprocessing, sys\n"
        "started = []\n"
        "multiprocessing.Process = lambda *args, **kwargs: started.append(kwargs)\n"
        "from bisenetv1_plugin.libraries import optional_library\n"
        "optional_library('openvino').Core()\n"
        "import openvino.tools.ovc\n"
        "print(started, 'openvino_telemetry' in sys.modules)\n"
        "import openvino_telemetry\n"
    )
    done = python("-c", code, CI="")
    assert (done.returncode, done.stdout) == (0, "[] False\n"), done.stderr


def test_loaded_module_is_not_hidden(python):
    code = (
        "import sys, types\n"
        "sys.modules['openvino_telemetry'] = module = types.ModuleType('openvino_telemetry')\n"
        "from bisenetv1_plugin.libraries import optional_library\n"
        "optional_library('onnxruntime')\n"
        "print(sys.modules['openvino_telemetry'] is module)\n"
    )
    done = python("-c", code)
    assert done.stdout == "True\n", done.stderr


@pytest.mark.parametrize("error", ["OSError", "AttributeError", "RuntimeError"])
def test_library_whose_import_fails_is_named(tmp_path, monkeypatch, error):
    (tmp_path / "broken_runtime.py").write_text(f"raise {error}('libfoo.so: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        InputError, match=r"broken_runtime is installed, but its import fails \(libfoo.so: cannot open\)"
    ):
        optional_library("broken_runtime")
