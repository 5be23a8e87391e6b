#!/usr/bin/env bash
# Build examples/cpp, run it on trained weights, and print the verdict: bash test_tipc/test_inference_cpp.sh CONFIG
# First prepare data and weights: bash test_tipc/prepare.sh CONFIG whole_infer
exec "${PYTHON:-python}" -m bisenetv1_plugin.tipc cpp "$@"
