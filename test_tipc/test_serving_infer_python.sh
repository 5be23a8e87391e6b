#!/usr/bin/env bash
# Trained weights behind `bisenetv1 serve`, asked over HTTP, and the verdict: bash test_tipc/test_serving_infer_python.sh CONFIG
# Before it, for data and weights: bash test_tipc/prepare.sh CONFIG whole_infer
exec "${PYTHON:-python}" -m bisenetv1_plugin.tipc serving "$@"
