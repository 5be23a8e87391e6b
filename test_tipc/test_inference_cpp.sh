#!/usr/bin/env bash
# examples/cpp built and run on trained weights, and the verdict: bash test_tipc/test_inference_cpp.sh CONFIG
# Before it, for data and weights: bash test_tipc/prepare.sh CONFIG whole_infer
exec "${PYTHON:-python}" -m bisenetv1_plugin.tipc cpp "$@"
