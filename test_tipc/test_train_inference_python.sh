#!/usr/bin/env bash
# A TIPC chain and its verdict: bash test_tipc/test_train_inference_python.sh CONFIG MODE
# Exit code 0: every step ran and inference agrees with prediction; anything else says why not.
exec "${PYTHON:-python}" -m bisenetv1_plugin.tipc run "$@"
