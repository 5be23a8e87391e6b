#!/usr/bin/env bash
# Trained weights to ONNX, ONNX Runtime, and the verdict: bash test_tipc/test_paddle2onnx.sh CONFIG
# Before it, for data and weights: bash test_tipc/prepare.sh CONFIG whole_infer
exec "${PYTHON:-python}" -m bisenetv1_plugin.tipc onnx "$@"
