#!/usr/bin/env bash
# Quantize weights after training, run inference in int8, and print the verdict: bash test_tipc/test_ptq_inference_python.sh CONFIG
# First prepare data and weights: bash test_tipc/prepare.sh CONFIG whole_infer
exec "${PYTHON:-python}" -m bisenetv1_plugin.tipc ptq "$@"
