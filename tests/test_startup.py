import gc
import subprocess
import sys

import pytest

from tideo.startup import starting


def test_a_module_that_few_use_is_imported_when_its_function_is_called() -> None:
    # In a process of its own: here other tests have imported it.
    script = """
import sys
from tideo.startup import starting
with starting():
    from scipy.optimize import linear_sum_assignment as early
    early([[1, 0], [0, 1]])
with starting():
    from scipy.optimize import linear_sum_assignment as known
assert known([[1, 0], [0, 1]])[1].tolist() == [1, 0], known
del sys.modules["scipy.optimize"]
with starting():
    from scipy.optimize import linear_sum_assignment as late
assert "scipy.optimize" not in sys.modules
rows, columns = late([[4, 1], [2, 8]])
assert (rows.tolist(), columns.tolist()) == ([0, 1], [1, 0])
import scipy.optimize
assert scipy.optimize.__file__
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_package_that_makes_classes_of_what_it_imports_gets_the_module_itself() -> None:
    script = """
from tideo.startup import end_deferring, starting
with starting():
    from scipy.optimize import linear_sum_assignment as early
    end_deferring()
    from scipy.optimize import OptimizeResult
    class Result(OptimizeResult): pass
assert early([[1, 0], [0, 1]])[1].tolist() == [1, 0]
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.mark.parametrize("enabled", [True, False])
def test_cycles_are_looked_for_again_afterwards_if_they_were_before(enabled: bool) -> None:
    (gc.enable if enabled else gc.disable)()
    try:
        with starting():
            assert not gc.isenabled()
        assert gc.isenabled() is enabled
    finally:
        gc.enable()
