#!/bin/sh
# The dollhouse asked by a client that knows nothing of tideo, lmms-eval's own model for OpenAI's protocol, against
# `tideo serve`: frames as image_url, options by letters in the text. The accuracy equals that of `tideo eval`.
#
#     sh examples/lmms_eval_server.sh [OUT [EPISODES [PORT [MODEL [FRAMES]]]]]
#
# FRAMES is how many the model takes: 10 for dollhouse-topa, 16 for dollhouse-grid.
# The environment is that of examples/lmms_eval.sh, which see; run with the same OUT they share it.
set -eu
cd "$(dirname "$0")/.."
out=${1:-out/lmms_eval}
num=${2:-14}
port=${3:-8000}
model=${4:-dollhouse-topa}
frames=${5:-10}
mkdir -p "$out"
out=$(cd "$out" && pwd)

if ! [ -x "$out/venv/bin/lmms-eval" ]; then
    python3 -m venv "$out/venv"
    "$out/venv/bin/pip" install --quiet lmms-eval
    "$out/venv/bin/pip" install --quiet -c constraints.txt --editable '.[serve]'
    "$out/venv/bin/python" -c "import torchvision" 2>/dev/null || "$out/venv/bin/pip" uninstall --quiet -y torchvision
fi
bin=$out/venv/bin

"$bin/tideo" dollhouse make --split test --num "$num" --out "$out/dollhouse"
"$bin/tideo" eval dollhouse --data "$out/dollhouse" --videos "$out/dollhouse/videos" --model "$model" \
    --control none --out "$out/tideo_$model"

"$bin/tideo" serve --model "$model" --port "$port" > "$out/address" &
server=$!
trap 'kill $server' EXIT
until grep -q http "$out/address"; do kill -0 $server; sleep 1; done
rm -rf "$out/lmms_server"
sed -i "s/num_frames: .*/num_frames: $frames/" "$out/dollhouse/lmms_eval/tideo_dollhouse_test_letters.yaml"
OPENAI_API_KEY=none "$bin/lmms-eval" --model openai --batch_size 1 \
    --model_args "model=$model,base_url=http://127.0.0.1:$port/v1,timeout=600" \
    --include_path "$out/dollhouse/lmms_eval" --tasks tideo_dollhouse_test_letters --output_path "$out/lmms_server"

"$bin/python" - "$out" "$model" <<'PYTHON'
import json
import sys
from pathlib import Path

out = Path(sys.argv[1])
ours = json.loads((out / f"tideo_{sys.argv[2]}" / "report.json").read_text())
newest = max((out / "lmms_server").rglob("*_results.json"), key=lambda path: path.stat().st_mtime)
theirs = json.loads(newest.read_text())["results"]["tideo_dollhouse_test_letters"]["acc,none"]
print(f"{sys.argv[2]}, {ours['n']} questions: tideo eval {ours['accuracy']:.4f}, lmms-eval through the server {theirs:.4f}")
sys.exit(abs(ours["accuracy"] - theirs) > 1e-9)
PYTHON
