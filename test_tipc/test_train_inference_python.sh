#!/usr/bin/env bash
# Run a TIPC chain and print its verdict: bash test_tipc/test_train_inference_python.sh CONFIG MODE
# The exit code is 0 if every step succeeded and inference agrees with prediction.
exec "${PYTHON:-python}" -m bisenetv1_plugin.tipc run "$@"
