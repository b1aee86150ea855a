#!/bin/sh
# The dollhouse inside lmms-eval, answered by a model of tideo: the accuracy equals that of `tideo eval`.
#
#     sh examples/lmms_eval.sh [OUT [EPISODES]]
#
# lmms-eval gets an environment of its own in OUT/venv (some gigabytes): it asks for PyAV below 16, tideo for 18, so
# tideo's PyAV is installed last. pip warns that lmms-eval asks for another; it decodes only for its own models.
set -eu
cd "$(dirname "$0")/.."
out=${1:-out/lmms_eval}
num=${2:-14}
mkdir -p "$out"
out=$(cd "$out" && pwd)

if ! [ -x "$out/venv/bin/lmms-eval" ]; then
    python3 -m venv "$out/venv"
    "$out/venv/bin/pip" install --quiet lmms-eval
    "$out/venv/bin/pip" install --quiet -c constraints.txt --editable .
    # A torchvision that was built for another torch breaks transformers; no model of tideo's own needs one.
    "$out/venv/bin/python" -c "import torchvision" 2>/dev/null || "$out/venv/bin/pip" uninstall --quiet -y torchvision
fi
bin=$out/venv/bin

"$bin/tideo" dollhouse make --split test --num "$num" --out "$out/dollhouse"
"$bin/tideo" eval dollhouse --data "$out/dollhouse" --videos "$out/dollhouse/videos" --model dollhouse-topa \
    --control none --out "$out/tideo"
"$bin/lmms-eval" --model tideo --model_args model=dollhouse-topa --batch_size 1 \
    --include_path "$out/dollhouse/lmms_eval" --tasks tideo_dollhouse_test --output_path "$out/lmms"

"$bin/python" - "$out" <<'PYTHON'
import json
import sys
from pathlib import Path

out = Path(sys.argv[1])
ours = json.loads((out / "tideo" / "report.json").read_text())
newest = max((out / "lmms").rglob("*_results.json"), key=lambda path: path.stat().st_mtime)
theirs = json.loads(newest.read_text())["results"]["tideo_dollhouse_test"]["acc,none"]
print(f"{ours['n']} questions: tideo eval {ours['accuracy']:.4f}, lmms-eval {theirs:.4f}")
sys.exit(abs(ours["accuracy"] - theirs) > 1e-9)
PYTHON
