#!/usr/bin/env bash
# Export trained weights to ONNX, run ONNX Runtime, and print the verdict: bash test_tipc/test_paddle2onnx.sh CONFIG
# First prepare data and weights: bash test_tipc/prepare.sh CONFIG whole_infer
exec "${PYTHON:-python}" -m bisenetv1_plugin.tipc onnx "$@"
