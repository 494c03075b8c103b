#!/bin/sh
# Two servers on this machine make the batches of a training on it, on drawn images: a few minutes on two cores.
#     sh examples/scale/train_two_servers.sh runs/two
# Nothing listens beyond loopback. Each waits until what it needs is there, so the order of starting does not matter.
set -eu
workdir=$1
port=${2:-5000}
python -m data_pipeline.serve --port="$port" &
first=$!
python -m data_pipeline.serve --dispatcher="grpc://localhost:$port" &
second=$!
trap 'kill "$first" "$second"' EXIT
python train_main.py --train_images=synthetic:64 --image_size=128,128 --batch_size=4 --epochs=2 \
    --workdir="$workdir" --data_service="grpc://localhost:$port" --worker_timeout=300
