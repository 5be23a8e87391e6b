#!/usr/bin/env bash
# Run `bisenetv1 serve` with trained weights, request masks over HTTP, and print the verdict: bash test_tipc/test_serving_infer_python.sh CONFIG
# First prepare data and weights: bash test_tipc/prepare.sh CONFIG whole_infer
exec "${PYTHON:-python}" -m bisenetv1_plugin.tipc serving "$@"
