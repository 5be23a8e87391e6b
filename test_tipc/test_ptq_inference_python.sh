#!/usr/bin/env bash
# Weights in 8 bits without training, inference in int8, and the verdict: bash test_tipc/test_ptq_inference_python.sh CONFIG
# Before it, for data and weights: bash test_tipc/prepare.sh CONFIG whole_infer
exec "${PYTHON:-python}" -m bisenetv1_plugin.tipc ptq "$@"
